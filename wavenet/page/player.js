"use strict";
/* Plays a sound while it is still being made. It runs in the audio thread, as an AudioWorkletProcessor.

Messages to it: {type: "clear"} forgets the sound; {type: "piece", samples} appends to it; {type: "end"} says that it is
whole; {type: "play", turn} plays it from its start; {type: "stop"} stops. Messages from it: {type: "at", turn, samples}
says how many samples are played, {type: "end", turn} that all are. `turn` counts the times that it was told to play. */

const RESUME_SECONDS = 0.2; // run dry, it waits for this much sound, or for the end
const TELL_SECONDS = 0.02;

class Player extends AudioWorkletProcessor {
    constructor({processorOptions: {rate}}) {
        super();
        this.rate = rate;
        this.step = rate / sampleRate; // 1, unless the browser does not play at the model's rate
        this.clear();
        this.port.onmessage = ({data}) => this[data.type](data);
    }

    clear() {
        this.sound = new Float32Array(this.rate);
        this.made = 0;
        this.whole = false;
        this.playing = this.stopping = false;
    }

    piece({samples}) {
        if (this.made + samples.length > this.sound.length) {
            const longer = new Float32Array(2 * (this.made + samples.length));
            longer.set(this.sound.subarray(0, this.made));
            this.sound = longer;
        }
        this.sound.set(samples, this.made);
        this.made += samples.length;
    }

    end() {
        this.whole = true;
    }

    play({turn}) {
        this.turn = turn;
        this.position = this.told = 0;
        this.playing = this.waiting = true;
        this.stopping = false;
    }

    stop() {
        this.stopping = true;
    }

    process(_inputs, [[output]]) {
        if (!this.playing) {
            return true;
        }
        const begins = this.waiting;
        const isReady = this.whole || this.made - this.position > RESUME_SECONDS * this.rate;
        if (this.waiting && (this.stopping || !isReady)) {
            this.playing = !this.stopping;
            return true;
        }
        // What begins or breaks off within the sound fades over one block, so that it does not click.
        this.waiting = !this.whole && this.made - this.position < 2 * output.length * this.step;
        this.fill(output, begins && this.position > 0, this.waiting || this.stopping);
        this.tell();
        return true;
    }

    fill(output, fadesIn, fadesOut) {
        for (let place = 0; place < output.length; place++) {
            const before = Math.floor(this.position + place * this.step);
            const share = this.position + place * this.step - before;
            const passed = (place + 1) / output.length;
            const value = (1 - share) * this.at(before) + share * this.at(before + 1);
            output[place] = value * (fadesIn ? passed : 1) * (fadesOut ? 1 - passed : 1);
        }
        this.position += output.length * this.step;
    }

    at(place) {
        return place < this.made ? this.sound[place] : 0;
    }

    tell() {
        const ended = this.whole && this.position >= this.made;
        this.playing = !ended && !this.stopping;
        if (ended) {
            this.port.postMessage({type: "end", turn: this.turn});
        } else if (this.position - this.told >= TELL_SECONDS * this.rate) {
            this.told = this.position;
            this.port.postMessage({type: "at", turn: this.turn, samples: this.position});
        }
    }
}

registerProcessor("player", Player);
