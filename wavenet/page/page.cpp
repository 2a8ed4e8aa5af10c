// The native engine for a browser: one stream, and what surrounds it in a page. worker.js calls these functions.
#include <memory>
#include <random>

#include "conditioning.h"

namespace wavenet {
namespace {

// What a choice of labels gives: the state after endless silence, and the biases.
struct Choice {
    explicit Choice(ModelReader& reader)
        : silent(reader.list<float>()), biases(reader.list<float>()), vector(reader.list<float>()) {}

    std::vector<float> silent;  // layers x residual: each queue repeats one row
    std::vector<float> biases;  // layers x gate, or none
    std::vector<float> vector;  // what the acoustic model knows of the clip
};

template <class Part>
std::optional<Part> optional_part(ModelReader& reader) {
    return reader.whole() ? std::optional<Part>(std::in_place, reader) : std::nullopt;
}

// The spectrum of the newest samples every 10 ms, to be drawn: a byte for each of 128 bands of equal width.
class Columns {
public:
    explicit Columns(int rate) : rate_(rate), spectrum_(hann(rate)), newest_(spectrum_.points()) {}

    void take(float sample) {
        newest_[count_ % newest_.size()] = sample;
        const int64_t before = count_ * 100 / rate_;
        if (++count_ * 100 / rate_ == before) return;
        const auto& power = spectrum_([&](int i) { return newest_[(count_ + i) % newest_.size()]; });
        const double full = 0.0625 * spectrum_.points() * spectrum_.points();  // of a sine at full scale
        for (int band = 0; band < kBands; ++band) {
            const size_t first = band * (power.size() - 1) / kBands, after = (band + 1) * (power.size() - 1) / kBands;
            const double most = *std::max_element(power.begin() + first, power.begin() + std::max(after, first + 1));
            const double decibels = 10 * std::log10(most / full + 1e-12);
            bytes.push_back(static_cast<uint8_t>(std::min(255.0, std::max(0.0, (decibels + 90) * 255 / 90))));
        }
    }

    std::vector<uint8_t> bytes;

private:
    static constexpr int kBands = 128;

    static std::vector<float> hann(int rate) {
        int points = 256;
        while (points < rate / 40) points *= 2;
        std::vector<float> window;
        for (int i = 0; i < points; ++i)
            window.push_back(static_cast<float>(0.5 - 0.5 * std::cos(2 * std::acos(-1.0) * i / points)));
        return window;
    }

    int64_t rate_, count_ = 0;
    PowerSpectrum spectrum_;
    std::vector<float> newest_;
};

class Page {
public:
    explicit Page(ModelReader reader)
        : rate_(reader.whole()), silence_(reader.whole()), silent_time_(reader.whole()), emphasis_(reader.number()),
          model_(read_description(reader)), log_mel_(optional_part<LogMel>(reader)),
          local_(optional_part<LocalBiases>(reader)), acoustic_(optional_part<Acoustic>(reader)) {
        if (log_mel_) frames_.silence.assign(log_mel_->bins(), static_cast<float>(reader.number()));
        if (log_mel_ && model_.prediction && model_.prediction->window.empty())
            correlation_.emplace(reader, *model_.prediction, log_mel_->hop());
        for (int count = reader.whole(); count > 0; --count) choices_.emplace_back(reader);
        if (local_ && local_->by_frame()) model_.shares = local_->shares();
        network_ = make_int8_network(model_);
    }

    void copy(const float* recording, int count) { frames_.features = (*log_mel_)(recording, count); }

    void say(std::vector<TimedLabel> labels, int choice) {
        const int samples = static_cast<int>(std::ceil(labels.back().end * rate_));
        frames_.features =
            (*acoustic_)(labels, samples / log_mel_->hop() + 1, choices_[choice].vector, frames_.silence[0]);
    }

    // Begins a clip: from endless silence to its first sample.
    void begin(int choice, uint32_t seed, double temperature) {
        choice_ = &choices_[choice];
        random_.seed(seed);
        options_.temperature = temperature;
        columns_.emplace(rate_);
        previous_ = 0;
        if (local_) local_->forget();
        load_silence();
        symbols_.assign(-1 - silent_time_, silence_);
        if (!symbols_.empty()) run({});
    }

    // The next samples.
    const float* make(int count) {
        std::vector<float> uniforms(count);
        for (float& uniform : uniforms)  // as torch.rand
            uniform = static_cast<float>(random_() & 0xffffff) / 16777216.0f;
        symbols_.assign(count, 0);
        run(uniforms);
        audio_.clear();
        columns_->bytes.clear();
        for (int64_t symbol : symbols_) {
            previous_ = model_.distribution.decoded[symbol] + static_cast<float>(emphasis_) * previous_;
            audio_.push_back(std::min(1.0f, std::max(-1.0f, previous_)));
            columns_->take(audio_.back());
        }
        return audio_.data();
    }

    const std::vector<uint8_t>& columns() const { return columns_->bytes; }
    const std::vector<float>& features() const { return frames_.features; }

private:
    void load_silence() {
        std::vector<std::vector<float>> queues;
        StateView state;
        int64_t latest = silence_;
        std::vector<float> samples(model_.prediction ? model_.prediction->history() : 0,
                                   model_.distribution.decoded[silence_]);
        const int residual = model_.residual(), past = model_.kernel_size() - 1;
        for (size_t l = 0; l < model_.layers.size(); ++l) {
            std::vector<float> queue;
            for (int slot = 0; slot < past * model_.layers[l].dilation; ++slot)
                queue.insert(queue.end(), choice_->silent.begin() + l * residual,
                             choice_->silent.begin() + (l + 1) * residual);
            queues.push_back(std::move(queue));
        }
        for (auto& queue : queues) state.queues.push_back(queue.data());
        state.time = silent_time_;
        state.latest = &latest;
        state.samples = samples.data();
        streams_ = network_->streams(1, 1);
        streams_->load(state);
    }

    // Steps through `symbols_`, which are drawn if there are uniforms.
    void run(const std::vector<float>& uniforms) {
        const int steps = static_cast<int>(symbols_.size());
        const int64_t time = streams_->time();
        const int width = model_.distribution.components ? 3 * model_.distribution.components
                                                         : static_cast<int>(model_.distribution.decoded.size());
        std::vector<float> parameters(static_cast<size_t>(steps) * width), biases = choice_->biases, frames;
        std::vector<double> correlation;
        Stretch stretch;
        stretch.steps = steps;
        stretch.uniforms = uniforms.empty() ? nullptr : uniforms.data();
        stretch.symbols = symbols_.data();
        stretch.parameters = parameters.data();
        stretch.bias_steps = 1;
        if (local_ && local_->by_frame())
            add_frames(stretch, time, frames);
        else if (local_)
            add_biases(stretch, time, biases);
        if (!biases.empty()) stretch.biases = biases.data();
        if (correlation_) add_correlation(stretch, time, correlation);
        streams_->run(stretch, options_);
    }

    void add_frames(Stretch& stretch, int64_t time, std::vector<float>& frames) {
        const int hop = local_->hop();
        const int64_t first = floor_divide(time + 1, hop), last = floor_divide(time + stretch.steps, hop);
        for (int64_t frame = first; frame < last + 2; ++frame) {
            const float* of = local_->of_frame(frames_, frame);
            frames.insert(frames.end(), of, of + local_->gates());
        }
        stretch.frames = frames.data();
        stretch.frame_count = static_cast<int>(last + 2 - first);
        stretch.phase = static_cast<int>(time + 1 - first * hop);
    }

    void add_biases(Stretch& stretch, int64_t time, std::vector<float>& biases) {
        biases.clear();
        for (int step = 0; step < stretch.steps; ++step) {
            Buffer<float> of = local_->of_sample(frames_, time + 1 + step);
            for (size_t i = 0; i < choice_->biases.size(); ++i) of[i] += choice_->biases[i];
            biases.insert(biases.end(), of.begin(), of.begin() + local_->gates());
        }
        stretch.bias_steps = stretch.steps;
    }

    void add_correlation(Stretch& stretch, int64_t time, std::vector<double>& correlation) {
        const int lags = model_.prediction->order + 1;
        stretch.first_block = floor_divide(time, model_.prediction->block);
        const int64_t last = floor_divide(time + stretch.steps, model_.prediction->block);
        stretch.blocks = static_cast<int>(last + 1 - stretch.first_block);
        correlation.resize(static_cast<size_t>(stretch.blocks) * lags);
        for (int block = 0; block < stretch.blocks; ++block)
            (*correlation_)(stretch.first_block + block, frames_, correlation.data() + block * lags);
        stretch.correlation = correlation.data();
    }

    int rate_, silence_, silent_time_;
    double emphasis_;
    Description model_;
    std::optional<LogMel> log_mel_;
    std::optional<LocalBiases> local_;
    std::optional<Acoustic> acoustic_;
    Frames frames_;
    std::optional<Correlation> correlation_;
    std::vector<Choice> choices_;
    std::shared_ptr<const Network> network_;

    const Choice* choice_ = nullptr;
    std::mt19937 random_;
    SamplingOptions options_;
    std::unique_ptr<Streams> streams_;
    std::optional<Columns> columns_;
    std::vector<int64_t> symbols_;
    std::vector<float> audio_;
    float previous_ = 0;
};

std::unique_ptr<Page> page;

}  // namespace
}  // namespace wavenet

// Memory that the caller gives is its own: it frees it with `free`.
#define EXPORTED(type, name) extern "C" __attribute__((export_name(#name))) type page_##name

EXPORTED(void, open)(const char* model) {
    wavenet::page = std::make_unique<wavenet::Page>(wavenet::ModelReader(model));
}

EXPORTED(void, copy)(const float* recording, int count) { wavenet::page->copy(recording, count); }

// What to say: `count` times start and end in seconds and the number of the name, 0 for a pause.
EXPORTED(void, say)(const double* labels, int count, int choice) {
    std::vector<wavenet::TimedLabel> said;
    for (int i = 0; i < count; ++i, labels += 3) said.push_back({labels[0], labels[1], static_cast<int>(labels[2])});
    wavenet::page->say(said, choice);
}

EXPORTED(void, begin)(int choice, uint32_t seed, double temperature) {
    wavenet::page->begin(choice, seed, temperature);
}

EXPORTED(const float*, make)(int count) { return wavenet::page->make(count); }

EXPORTED(const uint8_t*, columns)() { return wavenet::page->columns().data(); }

EXPORTED(int, column_bytes)() { return static_cast<int>(wavenet::page->columns().size()); }

EXPORTED(const float*, features)() { return wavenet::page->features().data(); }

EXPORTED(int, feature_count)() { return static_cast<int>(wavenet::page->features().size()); }
