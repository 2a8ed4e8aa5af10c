"use strict";
/* The recording that a vocoder copies: an example, a file chosen or dropped, or the microphone. */

const LONGEST_RECORDING = 30; // seconds
const SHORTEST_RECORDING = 0.2;
const SILENCE = 0.001; // a peak below this, of a full scale of 1

/** What the user can mend: a sentence that says how, and the field that it is about. */
class Mistake extends Error {
    constructor(message, field) {
        super(message);
        this.field = field;
    }
}

class Recording {
    /** `say` shows a sentence to the user, `refuse` a Mistake. */
    constructor(say, refuse) {
        this.say = say;
        this.refuse = refuse;
        this.settled = Promise.resolve();
        byId("file").addEventListener("change", ({target}) => {
            this.takeFile(target.files);
            target.value = ""; // so that the same file can be chosen again
        });
        byId("record").addEventListener("click", () => (this.recorder ? this.stopRecorder() : this.record()));
        byId("example").addEventListener("click", () => this.takeExample());
        for (const type of ["dragover", "dragleave", "drop"]) {
            addEventListener(type, (event) => this.drag(event)); // wherever: a dropped file must not replace the page
        }
    }

    /** Begin with a model's example; a model that copies nothing has none. */
    show(card) {
        this.card = card;
        this.stopRecorder();
        this.forget();
        if (card.copies && card.example) {
            this.takeExample(false);
        }
    }

    forget() {
        this.samples = null;
        this.taken = (this.taken ?? 0) + 1; // what is still being decoded comes too late
        URL.revokeObjectURL(byId("original").src);
        byId("original").hidden = true;
        byId("original").removeAttribute("src");
        byId("recording-name").textContent = "No recording yet.";
        byId("example").hidden = !this.card.example;
    }

    drag(event) {
        if (!event.dataTransfer?.types.includes("Files")) {
            return; // text may be dropped into a field
        }
        event.preventDefault();
        const over = this.card.copies && event.type === "dragover";
        byId("drop").classList.toggle("over", over);
        event.dataTransfer.dropEffect = this.card.copies ? "copy" : "none";
        if (event.type === "drop" && this.card.copies) {
            this.takeFile(event.dataTransfer.files);
        }
    }

    takeFile(files) {
        if (files.length === 1) {
            this.take(files[0].arrayBuffer(), files[0].name);
        } else {
            const came = files.length || "none";
            this.refuse(new Mistake(`It copies one sound file, and this is ${came}; give it one.`, byId("file")));
        }
    }

    takeExample(isTold = true) {
        const {example} = this.card;
        this.take(Promise.resolve(example).then(decodeBase64), `Example: ${this.card.example_name}`, isTold);
        byId("example").hidden = true;
    }

    /** Take a sound file's bytes, or a promise of them; `settled` resolves when they are decoded or refused.

    Without `isTold` it says only what is wrong: the page says itself when it is ready. */
    take(bytes, name, isTold = true) {
        this.forget();
        const turn = this.taken;
        this.settled = this.decode(bytes, name).then(
            (samples) => turn === this.taken && this.keep(samples, name, isTold),
            (mistake) => turn === this.taken && this.refuse(mistake),
        );
    }

    async decode(bytes, name) {
        const {rate} = this.card;
        let sound;
        try {
            sound = await decodeSound(await bytes, rate);
        } catch (error) {
            throw new Mistake(readingProblem(error, name, rate), byId("file"));
        }
        const seconds = sound.length / rate;
        if (seconds < SHORTEST_RECORDING) {
            const length = `${seconds.toFixed(2)} seconds`;
            throw new Mistake(`${name} lasts ${length}; it must last ${SHORTEST_RECORDING} or more.`, byId("file"));
        }
        if (!sound.every(Number.isFinite)) {
            throw new Mistake(`${name} has samples that are no numbers; choose another file.`, byId("file"));
        }
        if (sound.every((sample) => Math.abs(sample) < SILENCE)) {
            throw new Mistake(`${name} is silent; choose a file with sound, or check the microphone.`, byId("file"));
        }
        return sound;
    }

    keep(sound, name, isTold) {
        const {rate} = this.card;
        const cut = sound.length > LONGEST_RECORDING * rate;
        this.samples = cut ? sound.slice(0, LONGEST_RECORDING * rate) : sound;
        const length = `${(this.samples.length / rate).toFixed(1)} seconds`;
        byId("recording-name").textContent = `${name}, ${length}`;
        byId("original").src = URL.createObjectURL(encodeWav(this.samples, rate));
        byId("original").hidden = false;
        const whole = `${name} lasts ${(sound.length / rate).toFixed(1)} seconds`;
        if (cut) {
            this.say(`${whole}; only the first ${LONGEST_RECORDING} are copied.`);
        } else if (isTold) {
            this.say(`Ready to copy ${length}.`);
        }
    }

    async record() {
        if (this.isAsking) {
            return; // the browser is asking the user already
        }
        this.isAsking = true;
        const card = this.card;
        try {
            const stream = await navigator.mediaDevices.getUserMedia({audio: true});
            this.recorder = this.startRecorder(stream, card);
            this.say(`Recording. Press Stop recording to end it; it ends after ${LONGEST_RECORDING} seconds.`);
            if (card !== this.card) {
                this.stopRecorder(); // another model was chosen while the browser asked
            }
        } catch (error) {
            this.refuse(new Mistake(microphoneProblem(error), byId("record")));
        }
        this.isAsking = false;
    }

    startRecorder(stream, card) {
        const pieces = [];
        const recorder = new MediaRecorder(stream);
        recorder.ondataavailable = ({data}) => pieces.push(data);
        recorder.onstop = () => {
            clearInterval(clock);
            stream.getTracks().forEach((track) => track.stop());
            this.recorder = null;
            byId("record").textContent = "Record";
            byId("record").classList.remove("recording");
            if (card === this.card) {
                this.take(new Blob(pieces).arrayBuffer(), "Your recording");
            }
        };
        recorder.start();
        const began = performance.now();
        const clock = setInterval(() => this.tick((performance.now() - began) / 1000), 100);
        byId("record").classList.add("recording");
        this.tick(0);
        return recorder;
    }

    stopRecorder() {
        if (this.recorder?.state === "recording") {
            this.recorder.stop();
        }
    }

    tick(seconds) {
        byId("record").textContent = `Stop recording (${Math.floor(seconds)} s)`;
        if (seconds >= LONGEST_RECORDING) {
            this.stopRecorder();
            this.say(`The recording stopped after ${LONGEST_RECORDING} seconds, the most that is copied.`);
        }
    }
}

function readingProblem(error, name, rate) {
    if (error.name === "NotSupportedError") {
        return `This browser reads no sound at ${rate} Hz, which this model needs; try another browser.`;
    }
    return `This browser finds no sound that it can read in ${name}; choose a WAV, FLAC, MP3 or Ogg file.`;
}

function microphoneProblem(error) {
    if (error.name === "NotAllowedError" || error.name === "SecurityError") {
        return "The browser refuses the microphone; allow it for this page, or choose a sound file.";
    }
    if (error.name === "NotFoundError") {
        return "There is no microphone here; connect one, or choose a sound file.";
    }
    if (!navigator.mediaDevices) {
        return "This browser gives this page no microphone; choose a sound file.";
    }
    return `The microphone does not work here (${error.message}); choose a sound file.`;
}
