// What a model is conditioned on, to the biases that its engine takes, as in conditioning.py and acoustic.py.
#pragma once

#include <map>

#include "../engines/native/matrix.h"
#include "../engines/native/prediction.h"
#include "spectrum.h"

namespace wavenet {
namespace {

// y = W x + bias; y has room for `padded(outputs)`.
class Dense {
public:
    explicit Dense(ModelReader& reader)
        : inputs_(reader.whole()), weight_(reader.list<float>()), bias_(reader.list<float>()),
          arena_(Matrix::room(outputs(), inputs_)),
          matrix_(arena_, outputs(), inputs_, [&](int o, int i) { return weight_[o * inputs_ + i]; }) {
        weight_ = {};
    }

    int outputs() const { return static_cast<int>(bias_.size()); }

    Buffer<float> operator()(float* x) const {
        Buffer<float> y(padded(outputs()));
        std::copy(bias_.begin(), bias_.end(), y.begin());
        matrix_.multiply_add({x, inputs_, nullptr}, y.data(), 0, 1);
        return y;
    }

private:
    using Matrix = FloatMatrix<Float32>;
    int inputs_;
    std::vector<float> weight_, bias_;
    Arena arena_;
    Matrix matrix_;
};

inline void gelu(Buffer<float>& x) {
    for (float& value : x) value *= 0.5f * (1 + std::erf(value * 0.70710678f));
}

// Features, frame by frame; all frames that are not given are silence.
struct Frames {
    const float* operator()(int64_t frame) const {
        const int64_t count = static_cast<int64_t>(features.size() / silence.size());
        return frame < 0 || frame >= count ? silence.data() : features.data() + frame * silence.size();
    }

    std::vector<float> features, silence;
};

// The result of a function of whole numbers; the last few are kept.
template <class Function>
const Buffer<float>& memoised(std::map<int64_t, Buffer<float>>& results, int64_t key, Function function) {
    const auto found = results.find(key);
    if (found != results.end()) return found->second;
    if (results.size() > 16) results.erase(results.begin());  // the oldest
    return results.emplace(key, function()).first->second;
}

// The biases that come from features: of frames, between which the engine interpolates, or of samples.
class LocalBiases {
public:
    explicit LocalBiases(ModelReader& reader)
        : reach_(reader.whole()), spread_(static_cast<float>(reader.number())), by_frame_(reader.whole()),
          first_(reader), second_(reader), projection_(reader), hop_(reader.whole()), shares_(reader.list<float>()),
          offsets_(reader.list<float>()) {}

    bool by_frame() const { return by_frame_; }
    int hop() const { return hop_; }
    int gates() const { return projection_.outputs(); }

    // The shares of a frame and of the next one at each sample from the frame on, hop x 2; if `by_frame`.
    Values shares() const { return {shares_.data(), hop_, 2, nullptr}; }

    void forget() {
        contexts_.clear();
        biases_.clear();
    }

    const float* of_frame(const Frames& frames, int64_t frame) {
        return memoised(biases_, frame, [&] { return projection_(context(frames, frame).data()); }).data();
    }

    // A mixture of the context of the frames around a sample, a different one for each channel, and the projection.
    Buffer<float> of_sample(const Frames& frames, int64_t sample) {
        const int channels = second_.outputs(), width = static_cast<int>(shares_.size()) / (hop_ * channels);
        const int64_t frame = floor_divide(sample, hop_);
        const int place = static_cast<int>(sample - frame * hop_);
        Buffer<float> point(padded(channels));
        std::copy_n(offsets_.data() + place * channels, channels, point.begin());
        for (int j = 0; j < width; ++j) {
            const float* of = context(frames, frame + j - (width - 2) / 2).data();
            const float* share = shares_.data() + (place * width + j) * channels;
            for (int c = 0; c < channels; ++c) point[c] += share[c] * of[c];
        }
        return projection_(point.data());
    }

private:
    Buffer<float>& context(const Frames& frames, int64_t frame) {
        return const_cast<Buffer<float>&>(memoised(contexts_, frame, [&] {
            std::vector<float> around;
            for (int64_t f = frame - reach_; f <= frame + reach_; ++f) {
                const float* features = frames(f);
                for (size_t i = 0; i < frames.silence.size(); ++i) around.push_back(features[i] / spread_ + 1);
            }
            Buffer<float> hidden = first_(around.data());
            if (!by_frame_)
                for (float& value : hidden) value = std::tanh(value);
            else
                gelu(hidden);
            Buffer<float> channels = second_(hidden.data());
            if (by_frame_) gelu(channels);
            return channels;
        }));
    }

    int reach_;
    float spread_;
    bool by_frame_;
    Dense first_, second_, projection_;
    int hop_;
    std::vector<float> shares_;   // hop x 2 if `by_frame`, else hop x width x channels
    std::vector<float> offsets_;  // hop x channels, unless `by_frame`
    std::map<int64_t, Buffer<float>> contexts_, biases_;
};

// In seconds; name 0 is a pause.
struct TimedLabel {
    double start, end;
    int name;
};

// Timed labels to features.
class Acoustic {
public:
    explicit Acoustic(ModelReader& reader)
        : frames_per_second_(reader.number()), spread_(static_cast<float>(reader.number())), channels_(reader.whole()),
          bumps_(reader.whole()), before_(reader.list<float>()), name_(reader.list<float>()),
          after_(reader.list<float>()) {
        for (int layer = reader.whole(); layer > 0; --layer) layers_.emplace_back(reader);
    }

    // `count` frames of labels that follow each other; `vector` is that of the clip's labels.
    std::vector<float> operator()(const std::vector<TimedLabel>& said, int count, const std::vector<float>& vector,
                                  float silence) const {
        const std::vector<TimedLabel> labels = trimmed(said);
        std::vector<float> features;
        for (int frame = 0; frame < count; ++frame) {
            Buffer<float> x = frame_inputs(labels, frame / frames_per_second_, vector);
            for (size_t layer = 0; layer < layers_.size(); ++layer) {
                if (layer > 0) gelu(x);
                x = layers_[layer](x.data());
            }
            for (int bin = 0; bin < layers_.back().outputs(); ++bin)
                features.push_back(std::max(silence, (x[bin] - 1) * spread_));
        }
        return features;
    }

private:
    // Pauses at the beginning and at the end are nothing, as before and after a clip; those that meet are one.
    static std::vector<TimedLabel> trimmed(const std::vector<TimedLabel>& said) {
        std::vector<TimedLabel> labels;
        for (const TimedLabel& label : said) {
            if (!label.name) continue;
            if (!labels.empty() && label.start > labels.back().end + 1e-6)
                labels.push_back({labels.back().end, label.start, 0});
            labels.push_back(label);
        }
        return labels;
    }

    // What the frame at a time knows: the names before, at and after it, how much has passed, and how long it lasts.
    Buffer<float> frame_inputs(const std::vector<TimedLabel>& labels, double time,
                               const std::vector<float>& vector) const {
        constexpr double same = 1e-9;
        const int count = static_cast<int>(labels.size());
        int begun = 0;
        while (begun < count && labels[begun].start <= time + same) ++begun;
        const int latest = std::max(0, begun - 1);
        const bool outside = !count || begun == 0 || time >= labels[latest].end - same;
        const auto name = [&](int index) { return index < 0 || index >= count ? 0 : labels[index].name; };
        const double length = outside ? 1 : labels[latest].end - labels[latest].start;
        const float passed = outside ? 0 : static_cast<float>((time - labels[latest].start) / length);
        Buffer<float> x;
        const auto embed = [&](const std::vector<float>& table, int row) {
            x.insert(x.end(), table.begin() + row * channels_, table.begin() + (row + 1) * channels_);
        };
        embed(before_, outside ? name(begun - 1) : name(latest - 1));
        embed(name_, outside ? 0 : name(latest));
        embed(after_, name(begun));
        for (int bump = 0; bump < bumps_; ++bump) {
            const float distance = passed * static_cast<float>(bumps_ - 1) - static_cast<float>(bump);
            x.push_back(std::exp(-0.5f * distance * distance));
        }
        x.push_back(static_cast<float>(std::log(length)));
        x.insert(x.end(), vector.begin(), vector.end());
        return x;
    }

    double frames_per_second_;
    float spread_;
    int channels_, bumps_;
    std::vector<float> before_, name_, after_;
    std::vector<Dense> layers_;
};

}  // namespace
}  // namespace wavenet
