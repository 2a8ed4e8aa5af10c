"use strict";
/* The picture of a sound as it grows: its waveform above its spectrogram, what it says when, and where it is heard. */

const BLOCK_SAMPLES = 16; // the waveform keeps the extremes of this many samples
const COLUMNS_PER_SECOND = 100; // of as many whole samples each
const BANDS = 128; // the bytes of a column, the lowest frequency first
const HEATS = ["--heat-0", "--heat-1", "--heat-2", "--heat-3", "--heat-4"];
const FAINTEST_PEAK = 0.25; // a quieter sound is not drawn larger than this peak would be

class Picture {
    constructor(root, axis) {
        this.root = root;
        this.axis = axis;
        [this.waveform, this.spectrogram] = root.querySelectorAll("canvas");
        this.heat = document.createElement("canvas");
        this.begin(16000, 1, []);
        this.clear();
        new ResizeObserver(() => this.redraw()).observe(root);
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    }

    part(name) {
        return this.root.querySelector(`.${name}`);
    }

    /** Begin a sound that lasts so many seconds; `say` holds what is said when. */
    begin(rate, seconds, say) {
        this.rate = rate;
        this.seconds = seconds;
        this.made = 0;
        this.peaks = []; // of each block its lowest and its highest sample
        this.columns = [];
        this.root.classList.remove("idle");
        this.said = say;
        const chips = say.map(({name}) => make("span", {className: name ? "chip" : "pause"}, name));
        this.part("said").replaceChildren(...chips);
        this.part("pitch").textContent = `${rate / 2000} kHz`;
        this.move(null);
        this.redraw();
    }

    clear() {
        this.begin(this.rate, this.seconds, []);
        this.root.classList.add("idle");
        this.describe("no sound yet", "no sound yet");
    }

    add(samples, columns) {
        for (const sample of samples) {
            const place = 2 * Math.floor(this.made++ / BLOCK_SAMPLES);
            this.peaks[place] = Math.min(this.peaks[place] ?? sample, sample);
            this.peaks[place + 1] = Math.max(this.peaks[place + 1] ?? sample, sample);
        }
        for (let place = 0; place < columns.length; place += BANDS) {
            this.columns.push(columns.subarray(place, place + BANDS));
        }
        this.redraw();
    }

    /** Cut the picture where the sound ends, and say in words what it shows. */
    finish() {
        this.seconds = this.made / this.rate || this.seconds;
        const names = this.said.filter(({start, name}) => name && start < this.seconds).map(({name}) => name);
        const length = `${this.seconds.toFixed(1)} seconds${names.length ? ` that says ${names.join(", ")}` : ""}`;
        this.describe(`${length}, loudest at ${this.peak(0).toFixed(2)} of full scale`, `${length}, 0 to ${this.rate / 2000} kHz`);
        this.redraw();
    }

    /** The loudest sample's magnitude, or `least`. Too many for the arguments of Math.max. */
    peak(least) {
        return this.peaks.reduce((most, value) => Math.max(most, Math.abs(value)), least);
    }

    describe(waveform, spectrogram) {
        this.waveform.setAttribute("aria-label", `Waveform: ${waveform}`);
        this.spectrogram.setAttribute("aria-label", `Spectrogram: ${spectrogram}`);
    }

    /** Move the playhead to so many seconds; null takes it away. */
    move(seconds) {
        const head = this.part("playhead");
        head.hidden = seconds === null;
        head.style.left = this.share(Math.min(seconds ?? 0, this.seconds));
    }

    redraw() {
        this.frame ??= requestAnimationFrame(() => {
            this.frame = undefined;
            this.style = getComputedStyle(this.root);
            this.drawWaveform(prepared(this.waveform));
            this.drawSpectrogram(prepared(this.spectrogram));
            this.drawAxis();
            this.placeNames();
        });
    }

    drawWaveform({context, width, height}) {
        context.fillStyle = this.style.getPropertyValue("--line");
        context.fillRect(0, height / 2, width, 1);
        context.fillStyle = this.style.getPropertyValue("--mark");
        const scale = (0.47 * height) / this.peak(FAINTEST_PEAK);
        const blocks = (this.seconds * this.rate) / BLOCK_SAMPLES;
        const filled = Math.min(width, Math.ceil((width * this.peaks.length) / 2 / blocks));
        for (let x = 0; x < filled; x++) {
            const first = Math.min(Math.floor((x * blocks) / width), this.peaks.length / 2 - 1);
            const after = Math.max(first + 1, Math.floor(((x + 1) * blocks) / width));
            const held = this.peaks.slice(2 * first, 2 * after);
            const [low, high] = [Math.min(...held) * scale, Math.max(...held) * scale];
            context.fillRect(x, height / 2 - high, 1, Math.max(high - low, 1));
        }
    }

    drawSpectrogram({context, width, height}) {
        if (!this.columns.length) {
            return;
        }
        const colours = this.colours();
        const image = new ImageData(this.columns.length, BANDS);
        const pixels = new Uint32Array(image.data.buffer);
        this.columns.forEach((column, x) => {
            for (let band = 0; band < BANDS; band++) {
                pixels[(BANDS - 1 - band) * image.width + x] = colours[column[band]];
            }
        });
        [this.heat.width, this.heat.height] = [image.width, BANDS];
        this.heat.getContext("2d").putImageData(image, 0, 0);
        const columnSamples = Math.floor(this.rate / COLUMNS_PER_SECOND);
        const shown = (width * image.width * columnSamples) / this.rate / this.seconds;
        context.drawImage(this.heat, 0, 0, shown, height);
    }

    /** The colours of the bytes 0 to 255, as pixels (ABGR): between the colours of HEATS, which the style sets. */
    colours() {
        const stops = HEATS.map((name) => {
            const colour = this.style.getPropertyValue(name).trim();
            return [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
        });
        return Uint32Array.from({length: 256}, (_, byte) => {
            const place = (byte / 256) * (stops.length - 1);
            const [from, to] = [stops[Math.floor(place)], stops[Math.floor(place) + 1]];
            const [red, green, blue] = from.map((value, k) => Math.round(value + (place % 1) * (to[k] - value)));
            return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
        });
    }

    placeNames() {
        [...this.part("said").children].forEach(({style}, k) => {
            style.left = this.share(this.said[k].start);
            style.width = this.share(this.said[k].end - this.said[k].start);
        });
    }

    /** So many seconds as a share of the picture's width. */
    share(seconds) {
        return `${(100 * seconds) / this.seconds}%`;
    }

    drawAxis() {
        const widest = this.axis.clientWidth / 56; // labels that have room
        const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20].find((size) => this.seconds / size <= widest) ?? 60;
        const ticks = Array.from({length: Math.floor(this.seconds / step + 1e-6) + 1}, (_, k) => k * step);
        this.axis.replaceChildren(
            ...ticks.map((seconds) => {
                const tick = document.createElement("span");
                tick.textContent = `${+seconds.toFixed(1)}${seconds ? "" : " s"}`;
                tick.style.left = this.share(seconds);
                return tick;
            }),
        );
    }
}

/** An empty canvas with a pixel for each of the screen's. */
function prepared(canvas) {
    const {width, height} = canvas.getBoundingClientRect();
    canvas.width = Math.max(1, Math.round(width * devicePixelRatio));
    canvas.height = Math.max(1, Math.round(height * devicePixelRatio));
    return {context: canvas.getContext("2d"), width: canvas.width, height: canvas.height};
}
