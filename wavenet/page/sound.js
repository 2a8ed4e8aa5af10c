"use strict";
/* Sound in and out: pieces joined, WAV files written, sound files read, and a loudspeaker that plays what is made. */

/** Float32Arrays, one after the other, as one. */
function join(pieces) {
    const whole = new Float32Array(pieces.reduce((length, piece) => length + piece.length, 0));
    let place = 0;
    for (const piece of pieces) {
        whole.set(piece, place);
        place += piece.length;
    }
    return whole;
}

/** A 16-bit mono WAV file of samples in [-1, 1], rounded as the package rounds. */
function encodeWav(samples, rate) {
    const file = new DataView(new ArrayBuffer(44 + 2 * samples.length));
    const write = (place, text) => [...text].forEach((sign, k) => file.setUint8(place + k, sign.charCodeAt(0)));
    write(0, "RIFF");
    file.setUint32(4, 36 + 2 * samples.length, true);
    write(8, "WAVEfmt ");
    file.setUint32(16, 16, true); // the length of this chunk
    file.setUint16(20, 1, true); // PCM
    file.setUint16(22, 1, true); // one channel
    file.setUint32(24, rate, true);
    file.setUint32(28, 2 * rate, true); // bytes per second
    file.setUint16(32, 2, true); // bytes per sample
    file.setUint16(34, 16, true); // bits per sample
    write(36, "data");
    file.setUint32(40, 2 * samples.length, true);
    samples.forEach((sample, k) => file.setInt16(44 + 2 * k, toInt16(sample), true));
    return new Blob([file], {type: "audio/wav"});
}

/** The nearest 16-bit integer, the even one of two as near, clipped. */
function toInt16(sample) {
    const scaled = sample * 32768;
    const below = Math.floor(scaled);
    const nearest = scaled - below === 0.5 ? below + (below & 1) : Math.round(scaled);
    return Math.max(-32768, Math.min(32767, nearest));
}

/** The sound of a file's bytes at a sample rate, its channels averaged; rejects if the browser cannot decode it. */
async function decodeSound(bytes, rate) {
    const sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
    const mixed = new Float32Array(sound.length);
    for (let channel = 0; channel < sound.numberOfChannels; channel++) {
        sound.getChannelData(channel).forEach((sample, place) => (mixed[place] += sample / sound.numberOfChannels));
    }
    return mixed;
}

/** A context at this rate, or at the browser's own, where the player resamples. */
function makeContext(sampleRate) {
    try {
        return new AudioContext({sampleRate});
    } catch {
        return new AudioContext();
    }
}

/** Plays a sound from its first pieces on, through player.js. */
class Loudspeaker {
    /** `onmove` gets the seconds played, or null when the sound has ended. */
    constructor(onmove) {
        this.onmove = onmove;
        this.turn = 0;
        this.sounding = false;
        this.player = null;
    }

    /** Whether sound of this rate can be played piece by piece. Call it when the user presses something. */
    open(rate) {
        if (this.rate !== rate) {
            this.close();
            this.rate = rate;
            this.opened = this.start(rate);
        }
        this.context?.resume();
        return this.opened;
    }

    async start(rate) {
        const source = byId("player").textContent;
        let context;
        try {
            context = this.context = makeContext(rate);
            await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(source)}`);
        } catch {
            return false; // the page gives the sound to an <audio> element
        }
        if (context !== this.context) {
            return false; // closed meanwhile: another model was chosen
        }
        this.player = new AudioWorkletNode(context, "player", {
            numberOfInputs: 0,
            outputChannelCount: [1],
            processorOptions: {rate},
        });
        this.player.port.onmessage = ({data}) => this.hear(data);
        this.player.connect(this.context.destination);
        return true;
    }

    hear({type, turn, samples}) {
        if (turn === this.turn && this.sounding) {
            this.sounding = type !== "end";
            this.onmove(this.sounding ? samples / this.rate : null);
        }
    }

    clear() {
        this.sounding = false;
        this.player?.port.postMessage({type: "clear"});
    }

    piece(samples) {
        this.player?.port.postMessage({type: "piece", samples});
    }

    end() {
        this.player?.port.postMessage({type: "end"});
    }

    play() {
        this.turn += 1;
        this.sounding = true;
        this.context.resume();
        this.player.port.postMessage({type: "play", turn: this.turn});
    }

    stop() {
        this.sounding = false;
        this.player?.port.postMessage({type: "stop"});
    }

    close() {
        this.sounding = false;
        this.context?.close();
        this.context = this.player = this.rate = null;
    }
}
