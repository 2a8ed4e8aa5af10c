"use strict";
/* What the page says in words: the models to choose from, facts, how far the sound is, and a line of status. */

const inTimes = (speed) => `${speed < 0.1 ? speed.toPrecision(1) : speed.toFixed(1)} × real time`;

class Display {
    /** Offer a choice of several cards; `onchoose` gets the index of the one that is chosen. */
    showChoice(cards, onchoose) {
        const tabs = cards.map((card, index) => {
            const choice = make("input", {type: "radio", name: "model", value: index, checked: index === 0});
            choice.className = "unseen";
            choice.addEventListener("change", () => onchoose(index));
            return make("label", {}, choice, make("span", {}, card.name));
        });
        byId("models-choice").append(...tabs);
        byId("models-choice").hidden = cards.length < 2;
    }

    showCard({does, layers, rate, size, licence, data}) {
        byId("does").textContent = does && `This model ${does}.`;
        const facts = {"Layers": layers, "Sample rate": `${rate.toLocaleString("en")} Hz`, "Size": `${size} MB`};
        Object.assign(facts, data && {"Trained on": data}, licence && {"Licence of its data": licence});
        const rows = Object.entries(facts).map(([name, value]) =>
            make("div", {}, make("dt", {}, name), make("dd", {}, String(value))),
        );
        byId("facts").replaceChildren(...rows);
    }

    /** Show how many seconds are made, of how many or null, and how fast; 0 seconds for nothing yet. */
    showProgress(made, total, speed) {
        const of = total ? ` of ${total.toFixed(1)}` : "";
        byId("made").textContent = made ? `${made.toFixed(1)}${of} s` : "–";
        byId("speed").textContent = speed ? inTimes(speed) : "–";
        byId("progress").value = total ? made / total : 0;
    }

    showButtons(isBusy, canPlay, canSave) {
        byId("speak").dataset.does = isBusy ? "stop" : "speak";
        byId("speak-word").textContent = isBusy ? "Stop" : "Speak";
        byId("again").disabled = !canPlay;
        byId("save").disabled = !canSave;
    }

    says(words) {
        return byId("status").textContent === words;
    }

    /** Say a sentence; it may be about what went wrong, and about a field that the user can mend. */
    say(words, isWrong = false, field = null) {
        document.querySelectorAll("[aria-invalid]").forEach((one) => one.removeAttribute("aria-invalid"));
        const status = byId("status");
        status.classList.toggle("wrong", isWrong);
        if (!this.says(words)) {
            status.textContent = words;
        }
        field?.setAttribute("aria-invalid", "true");
        field?.focus();
    }

    /** Offer a sound file, or null, to the browser's own player. */
    offer(file) {
        const heard = byId("heard");
        URL.revokeObjectURL(heard.src);
        heard.removeAttribute("src");
        heard.hidden = !file;
        if (file) {
            heard.src = URL.createObjectURL(file);
        }
    }
}
