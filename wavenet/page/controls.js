"use strict";
/* The controls that a model's card asks for, and what the user set them to. */

const LONGEST_SECONDS = 60;
const NAME_SECONDS = 0.45;
const PAUSE_SECONDS = 0.1;

/** An element with these properties and children. */
function make(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
}

function listed(names) {
    return names.length > 40 ? `${names.slice(0, 40).join(", ")} and ${names.length - 40} more` : names.join(", ");
}

/** What `7:0.45 :0.1 9:0.5` says, as the command line reads it: [{start, end, name}], in seconds. */
function parseSay(text, names, field) {
    const example = `${names[0]}:${NAME_SECONDS}`;
    const said = [];
    let now = 0;
    for (const label of text.trim().split(/(?<=:\S+)\s+/).filter(Boolean)) { // a name may contain spaces
        const {name, seconds} = parseLabel(label, names, field);
        said.push({start: now, end: now + seconds, name});
        now += seconds;
    }
    if (!said.some(({name}) => name)) {
        throw new Mistake(`There is nothing to say; write a name and its seconds, such as ${example}.`, field);
    }
    if (now > LONGEST_SECONDS) {
        throw new Mistake(`This lasts ${now.toFixed(1)} seconds; make it ${LONGEST_SECONDS} or shorter.`, field);
    }
    return said;
}

function parseLabel(label, names, field) {
    const [, name, seconds] = /^(.*):(.*)$/.exec(label) ?? [];
    if (name === undefined) {
        const example = `${names[0]}:${NAME_SECONDS}`;
        throw new Mistake(`“${label}” has no time; write a name, a colon and its seconds, such as ${example}.`, field);
    }
    if (name && !names.includes(name)) {
        throw new Mistake(`“${name}” is not a name that this model can say. It can say ${listed(names)}.`, field);
    }
    if (!/^(\d+\.?\d*|\.\d+)$/.test(seconds) || !(Number(seconds) > 0)) {
        const remedy = `write its seconds, such as ${name}:${NAME_SECONDS}`;
        throw new Mistake(`“${label}” has no time above 0 after its colon; ${remedy}.`, field);
    }
    return {name, seconds: Number(seconds)};
}

/** The number in a field, within the field's own bounds. */
function readNumber(field, what) {
    const value = field.valueAsNumber;
    const isWhole = field.step === "1";
    if (!(value >= Number(field.min) && value <= Number(field.max)) || (isWhole && !Number.isInteger(value))) {
        const kind = isWhole ? "a whole number" : "a number";
        throw new Mistake(`The ${what} must be ${kind} from ${field.min} to ${field.max}; change it.`, field);
    }
    return value;
}

class Controls {
    constructor(recording) {
        this.recording = recording;
        byId("temperature").addEventListener("input", () => this.showTemperature());
        byId("new-seed").addEventListener("click", () => {
            const other = Math.floor(Math.random() * 9999); // one of 10,000 without the one that is there
            byId("seed").value = other < byId("seed").valueAsNumber ? other : other + 1;
        });
        byId("clear").addEventListener("click", () => {
            byId("say").value = "";
            byId("say").focus();
        });
    }

    /** Show what this card's model can be told. */
    show(card) {
        this.card = card;
        byId("names").hidden = !card.names;
        byId("copies").hidden = !card.copies;
        byId("length").hidden = Boolean(card.names || card.copies);
        byId("seconds").value = Math.max(card.seconds, byId("seconds").min);
        byId("temperature").value = card.temperature;
        this.showTemperature();
        if (card.names) {
            this.showNames(card.names);
        }
        this.selects = card.labels.map(([kind, names], k) =>
            make("select", {id: `label-${k}`, name: kind}, ...names.map((name) => make("option", {}, name))),
        );
        const title = (kind) => kind.charAt(0).toUpperCase() + kind.slice(1).replaceAll("_", " ");
        byId("labels").replaceChildren(
            ...this.selects.map((select) =>
                make("div", {className: "field"}, make("label", {htmlFor: select.id}, title(select.name)), select),
            ),
        );
        byId("labels").hidden = !this.selects.length;
        this.recording.show(card);
    }

    showNames(names) {
        const said = (name) => `${name}:${NAME_SECONDS}`;
        const pause = ` :${PAUSE_SECONDS} `;
        const field = byId("say");
        byId("say-example").textContent = said(names[0]);
        field.value = [3, 1, 4].map((place) => said(names[place % names.length])).join(pause);
        byId("name-buttons").classList.toggle("short", names.every((name) => name.length < 3));
        byId("name-buttons").replaceChildren(
            ...names.map((name) => {
                const button = make("button", {type: "button"}, name);
                button.addEventListener("click", () => {
                    field.value = field.value.trim() ? `${field.value.trim()}${pause}${said(name)}` : said(name);
                    field.scrollLeft = field.scrollWidth;
                });
                return button;
            }),
        );
    }

    showTemperature() {
        const {value, min, max, style} = byId("temperature");
        byId("temperature-value").textContent = Number(value).toFixed(2);
        style.setProperty("--share", `${(100 * (value - min)) / (max - min)}%`);
    }

    /** What to make, as the engine is told it; throws a Mistake. */
    async read() {
        const {names, copies, rate} = this.card;
        const request = {
            labels: this.selects.map((select) => select.selectedIndex),
            seed: readNumber(byId("seed"), "seed"),
            temperature: byId("temperature").valueAsNumber,
            samples: null,
            say: null,
            recording: null,
        };
        if (names) {
            request.say = parseSay(byId("say").value, names, byId("say"));
        } else if (copies) {
            if (this.recording.recorder) {
                throw new Mistake("It is still recording; press Stop recording first.", byId("record"));
            }
            await this.recording.settled;
            request.recording = this.recording.samples;
            if (!request.recording) {
                const remedy = "choose a sound file, drop one, or record one";
                throw new Mistake(`There is no recording to copy; ${remedy}.`, byId("file"));
            }
        } else {
            request.samples = Math.max(1, Math.round(readNumber(byId("seconds"), "length") * rate));
        }
        return request;
    }
}
