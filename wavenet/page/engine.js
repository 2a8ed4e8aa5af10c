"use strict";
/* The engine, as the page sees it: a worker that holds one model, and answers with sound. */

// A function that returns i8x16.popcnt(i8x16.splat(0)), in WebAssembly's binary format.
const SIMD_MODULE = [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];

/** Whether the browser runs WebAssembly with SIMD, which the engine needs. */
function runsEngine() {
    return typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(SIMD_MODULE));
}

const byId = (id) => document.getElementById(id);

/** The bytes that a text of the page holds in base64; throws an Error if it is damaged. */
function decodeBase64(encoded) {
    let text;
    try {
        text = atob(encoded);
    } catch {
        throw new Error("its file is damaged");
    }
    const bytes = new Uint8Array(text.length);
    for (let place = 0; place < text.length; place++) {
        bytes[place] = text.charCodeAt(place);
    }
    return bytes.buffer;
}

// A promise that is rejected in a worker says nothing to the page; an error does.
const REJECTIONS_ARE_ERRORS = 'addEventListener("unhandledrejection", ({reason}) => { throw reason; });';

class Engine {
    /** `onmessage` gets what the worker says; a worker that breaks says {type: "failed"} too. */
    constructor(onmessage) {
        this.onmessage = onmessage;
        this.worker = null;
    }

    /** Start a worker with the model of this index; `ready` resolves when it can speak. */
    open(card, index) {
        this.close();
        const [engine, model] = ["engine", `model-${index}`].map((id) => decodeBase64(byId(id).textContent));
        const source = new Blob([byId("worker").textContent, "\n", REJECTIONS_ARE_ERRORS], {type: "text/javascript"});
        const address = URL.createObjectURL(source);
        const worker = (this.worker = new Worker(address));
        this.ready = new Promise((resolve) => {
            worker.onmessage = ({data}) => (data.type === "ready" ? resolve() : this.onmessage(data));
        });
        this.ready.then(() => URL.revokeObjectURL(address));
        worker.onerror = (event) => {
            event.preventDefault();
            this.onmessage({type: "failed", message: event.message || "its worker does not start"});
        };
        worker.postMessage({type: "open", engine, model, card}, [engine, model]);
    }

    speak(request) {
        this.worker.postMessage({type: "speak", ...request});
    }

    stop() {
        this.worker.postMessage({type: "stop"});
    }

    close() {
        this.worker?.terminate();
        this.worker = null;
    }
}
