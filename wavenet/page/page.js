"use strict";
/* The page: it asks the engine for sound, and shows and plays what comes.

A card says of a model: name, does, rate (Hz), size (MB), layers, licence, data, labels (pairs of a kind
and its names), names (those that it can say at given times, or null), copies (whether it needs a recording),
temperature, seconds (how long a babble lasts at first), example (a WAV file in base64, or null) and example_name. */

const FIRST_SECONDS = 0.3; // of sound, before it plays and before its speed is judged
const FAST_ENOUGH = 1.1; // times real time; a slower engine's sound plays when all of it is made
const LOADING = "The model is loading.";

class Page {
    constructor(cards) {
        this.cards = cards;
        this.id = 0;
        this.engine = new Engine((message) => this.hear(message));
        this.loudspeaker = new Loudspeaker((seconds) => this.follow(seconds));
        this.picture = new Picture(byId("picture"), document.querySelector(".axis"));
        this.display = new Display();
        const say = (words) => this.display.say(words);
        this.controls = new Controls(new Recording(say, (mistake) => this.refuse(mistake)));
        this.listen();
        this.display.showChoice(cards, (index) => this.choose(index));
        this.choose(0);
    }

    listen() {
        byId("speak").addEventListener("click", () => (this.isBusy() ? this.stop() : this.speak()));
        byId("again").addEventListener("click", () => this.play());
        byId("save").addEventListener("click", () => this.save());
        byId("controls").addEventListener("keydown", ({key, target}) => {
            if (key === "Enter" && target.matches("input[type=text], input[type=number]")) {
                this.speak();
            }
        });
        byId("controls").addEventListener("input", ({target}) => target.removeAttribute("aria-invalid"));
        byId("skip").addEventListener("click", (event) => {
            event.preventDefault(); // in a frame the link would load the page around it
            byId("main").focus();
        });
    }

    choose(index) {
        this.card = this.cards[index];
        this.index = index;
        this.loudspeaker.close();
        this.engine.close();
        this.forget();
        this.picture.clear();
        this.controls.show(this.card);
        this.display.showCard(this.card);
        if (this.checkBrowser()) {
            this.open();
        }
    }

    /** Whether the engine runs here; if not, it says so. */
    checkBrowser() {
        if (!runsEngine()) {
            this.fail("This browser has no WebAssembly SIMD, which the engine needs; open it in a newer browser.");
        }
        return runsEngine();
    }

    async open() {
        const index = this.index;
        this.enter("loading", LOADING);
        this.engine.open(this.card, index);
        await this.engine.ready;
        if (index === this.index && this.state === "loading") {
            this.enter("idle", this.display.says(LOADING) ? "Ready." : undefined); // a mistake stays to be read
        }
    }

    forget() {
        this.id += 1; // what still comes of an older sound is ignored
        this.pieces = [];
        this.made = this.seconds = 0;
        this.total = null;
        this.loudspeaker.clear();
        this.display.offer(null);
        this.showProgress();
    }

    async speak() {
        const {card} = this;
        const opening = this.loudspeaker.open(card.rate); // before any wait, while the press still lets sound begin
        let request;
        try {
            request = await this.controls.read();
        } catch (error) {
            card === this.card && this.refuse(error);
            return;
        }
        if (card !== this.card || !this.checkBrowser() || this.state === "speaking") {
            return; // another model was chosen while the recording was read, or Speak was pressed twice
        }
        this.forget();
        const id = this.id;
        this.request = {id, ...request};
        this.asked = this.stopping = this.isSlow = false;
        const seconds = request.say?.at(-1).end ?? (request.samples ?? request.recording.length) / card.rate;
        this.picture.begin(card.rate, seconds, request.say ?? []);
        if (!this.engine.worker) {
            this.engine.open(this.card, this.index); // the last one failed
        }
        this.enter("speaking", "Speaking.");
        const plays = await opening;
        await this.engine.ready;
        if (id === this.id) {
            Object.assign(this, {plays, asked: true});
            this.engine.speak(this.request);
        }
    }

    hear(message) {
        if (message.type === "failed" && (message.id ?? this.id) === this.id) {
            this.engine.close();
            this.fail(`The engine failed: ${message.message}. Press Speak to try again.`);
        } else if (message.id === this.id) {
            message.type === "audio" ? this.take(message) : this.finish(message);
        }
    }

    take({samples, columns, made, total, seconds}) {
        this.pieces.push(samples);
        Object.assign(this, {made, total, seconds});
        this.picture.add(samples, columns);
        this.loudspeaker.piece(samples);
        this.showProgress();
        const isWaiting = this.plays && !this.stopping && !this.loudspeaker.sounding;
        if (isWaiting && made >= FIRST_SECONDS * this.card.rate) {
            this.playAlong();
        }
    }

    playAlong() {
        if (this.realTime >= FAST_ENOUGH) {
            this.loudspeaker.play();
            this.enter("speaking", "Speaking.");
        } else if (!this.isSlow) {
            this.isSlow = true; // said once: a screen reader would read every change
            this.display.say(`This machine makes ${inTimes(this.realTime)}; it plays when done.`);
        }
    }

    finish({made, seconds, stopped}) {
        Object.assign(this, {made, seconds, total: made});
        this.loudspeaker.end();
        this.picture.finish();
        this.showProgress();
        const length = `${(made / this.card.rate).toFixed(1)} seconds of sound`;
        const words = stopped ? `Stopped after ${length}.` : `Done: ${length}, made at ${inTimes(this.realTime)}.`;
        this.enter("done", words);
        if (!this.plays) {
            this.display.offer(this.wav());
            this.display.say(`${words} This browser cannot play it while it is made; play it below.`);
        } else if (!this.stopping && !this.loudspeaker.sounding) {
            this.play();
        }
    }

    play() {
        if (this.plays) {
            this.loudspeaker.play();
            this.enter(this.state);
        } else {
            byId("heard").play();
        }
    }

    /** Stop making and playing; what is made stays. */
    stop() {
        this.stopping = true;
        this.loudspeaker.stop();
        this.picture.move(null);
        if (this.state !== "speaking") {
            this.enter(this.state);
        } else if (this.asked) {
            this.engine.stop();
        } else {
            this.forget();
            this.picture.clear();
            this.enter("idle", "Stopped before it began.");
        }
    }

    /** Show how far the loudspeaker is, in seconds; null when it has ended. */
    follow(seconds) {
        this.picture.move(seconds);
        if (seconds === null) {
            this.enter(this.state);
        }
    }

    wav() {
        return encodeWav(join(this.pieces), this.card.rate);
    }

    save() {
        const link = make("a", {href: URL.createObjectURL(this.wav())});
        link.download = `${this.card.name.replace(/[^\w.-]+/g, "-")}-seed${this.request.seed}.wav`;
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60000); // once the browser has surely read it
        this.display.say(`Saved as ${link.download}.`);
    }

    get realTime() {
        return this.seconds ? this.made / this.card.rate / this.seconds : 0;
    }

    isBusy() {
        return this.state === "speaking" || this.loudspeaker.sounding;
    }

    /** Enter a state, and say so; without words only the buttons follow. */
    enter(state, words) {
        this.state = state;
        const isMade = this.made > 0;
        this.display.showButtons(this.isBusy(), isMade && state === "done", isMade && state !== "speaking");
        if (words !== undefined) {
            this.display.say(words, state === "failed");
        }
    }

    fail(words) {
        this.loudspeaker.stop();
        this.picture.move(null);
        if (this.made) {
            this.picture.finish();
        }
        this.enter("failed", words);
    }

    /** Say what the user can mend; what is no Mistake is the page's own error. */
    refuse(problem) {
        if (!(problem instanceof Mistake)) {
            throw problem;
        }
        this.display.say(problem.message, true, problem.field);
    }

    showProgress() {
        const {rate} = this.card;
        this.display.showProgress(this.made / rate, this.total && this.total / rate, this.realTime);
    }
}

let page;
function report(problem) {
    const words = `The page has an error: ${problem?.message ?? problem}. Load it again, or copy its file again.`;
    page ? page.fail(words) : new Display().say(words, true);
}
addEventListener("error", (event) => report(event.error ?? event.message));
addEventListener("unhandledrejection", (event) => report(event.reason));
page = new Page(JSON.parse(byId("models").textContent));

/** What tests and scripts may read: the state, the model's name, all samples made so far, their rate, and the speed. */
window.speaking = {
    get state() {
        return page.state; // "idle", "loading", "speaking", "done" or "failed"
    },
    get model() {
        return page.card.name;
    },
    get samples() {
        return join(page.pieces);
    },
    get rate() {
        return page.card.rate;
    },
    get realTime() {
        return page.realTime;
    },
};
