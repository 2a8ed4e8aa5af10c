// Runs the engine, so that the page stays responsive. Messages in:
//   open   engine and model (ArrayBuffer), card
//   speak  id, labels (a number for each kind), seed, temperature, and samples, say or recording
//   stop
// Messages out: ready; audio (id, samples, columns, made, total, seconds) again and again; then done (id, made, seconds,
// stopped), or failed (id, message). `seconds` are those that the engine has computed.
"use strict";

let engine, card, current = 0;

const pause = (() => {  // until other messages are read, without the 4 ms that timers wait at least
    const channel = new MessageChannel();
    let go;
    channel.port1.onmessage = () => go();
    return () => new Promise((resolve) => { go = resolve; channel.port2.postMessage(0); });
})();

async function open(message) {
    const stop = (status) => { throw new Error(`it gave up with status ${status}, perhaps for lack of memory`); };
    const imports = { env: { emscripten_notify_memory_growth() {} }, wasi_snapshot_preview1: { proc_exit: stop } };
    const { instance } = await WebAssembly.instantiate(message.engine, imports);
    engine = instance.exports;
    card = message.card;
    engine._initialize();
    withCopy(new Uint8Array(message.model), (at) => engine.open(at));
    postMessage({ type: "ready" });
}

// Calls `use` with the address of a copy of some numbers in the engine's memory.
function withCopy(numbers, use) {
    const at = engine.malloc(numbers.byteLength);
    if (!at) {
        throw new Error("there is not enough memory");
    }
    new numbers.constructor(engine.memory.buffer, at, numbers.length).set(numbers);
    use(at);
    engine.free(at);
}

// Copies of what is made: the engine's memory may move.
const read = {
    samples: (count) => {
        const at = engine.make(count);  // before `buffer` is read, which may be another afterwards
        return new Float32Array(engine.memory.buffer, at, count).slice();
    },
    columns: () => new Uint8Array(engine.memory.buffer, engine.columns(), engine.column_bytes()).slice(),
};

// The place of these labels among all combinations; those of the last kind change fastest.
function choiceOf(labels) {
    return card.labels.reduce((choice, [, names], kind) => choice * names.length + labels[kind], 0);
}

// Tells the engine what to speak from. Returns how many samples that lasts.
function prepare(message, choice) {
    if (message.recording) {
        withCopy(message.recording, (at) => engine.copy(at, message.recording.length));
        return message.recording.length;
    }
    if (message.say) {
        const numbered = message.say.map(({ start, end, name }) => [start, end, card.names.indexOf(name) + 1]);
        withCopy(Float64Array.from(numbered.flat()), (at) => engine.say(at, numbered.length, choice));
        return Math.max(1, Math.round(message.say.at(-1).end * card.rate));
    }
    return message.samples;
}

async function speak(message) {
    const id = current = message.id, choice = choiceOf(message.labels), piece = Math.ceil(card.rate / 20);
    let begun = performance.now(), count = 0;
    const total = prepare(message, choice);
    engine.begin(choice, message.seed, message.temperature);
    let seconds = (performance.now() - begun) / 1000;
    while (id === current && count < total) {
        begun = performance.now();
        const samples = read.samples(Math.min(piece, total - count)), columns = read.columns();
        seconds += (performance.now() - begun) / 1000;
        count += samples.length;
        const sound = { type: "audio", id, samples, columns, made: count, total, seconds };
        postMessage(sound, [samples.buffer, columns.buffer]);
        await pause();
    }
    postMessage({ type: "done", id, made: count, seconds, stopped: count < total });
}

onmessage = async ({ data }) => {
    try {
        if (data.type === "open") await open(data);
        if (data.type === "speak") await speak(data);
        if (data.type === "stop") current = 0;
    } catch (error) {
        postMessage({ type: "failed", id: data.id, message: String(error.message || error) });
    }
};
