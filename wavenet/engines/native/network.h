// The network, one sample at a time: packed weights that all streams share, and the state of each stream.
//
// A step of a layer has three parts. `prepare` applies the past taps and can run before the newest input is there.
// `advance` applies the newest tap, the gate and the residual; the next layer waits for it. `collect` applies the skip
// projection; no layer waits for it. One thread runs all three; with two, the second runs `prepare` and `collect`.
#pragma once

#include <atomic>
#include <cstring>
#include <functional>
#include <system_error>
#include <thread>

#include "engine.h"
#include "matrix.h"
#include "prediction.h"
#include "sampling.h"

namespace wavenet {
namespace {

template <class Format>
struct Layer {
    using Matrix = typename Format::Matrix;
    int dilation, context;
    std::vector<Matrix> past;       // a matrix for each past tap, the oldest first
    Matrix newest, residual, skip;  // the last layer does not use its residual
    Buffer<float> bias;
};

// Gates are stored as [filter | gate], each padded to whole units so that their lanes match.
template <class Format>
class PackedNetwork : public Network, public std::enable_shared_from_this<PackedNetwork<Format>> {
    using Matrix = typename Format::Matrix;

public:
    explicit PackedNetwork(const Description& model)
        : residual(model.residual()), half(model.gate() / 2), skip(model.skip.weight.rows),
          head(model.head.weight.rows), outputs(model.output.weight.rows),
          history(model.prediction ? model.prediction->history() : 0), signals(model.signals()),
          rows(model.table.rows / signals), decoded(model.distribution.decoded), prediction(model.prediction),
          distribution(Distribution::of(model.distribution)), arena(room(model)), head_matrix(pack(model.head)),
          output_matrix(pack(model.output)), table(static_cast<size_t>(model.table.rows) * padded(residual)),
          skip_bias(padded_copy(model.skip.bias)), head_bias(padded_copy(model.head.bias)),
          output_bias(padded_copy(model.output.bias)) {
        if (model.shares) shares.assign(model.shares->data, model.shares->data + 2 * model.shares->rows);
        const int layer_count = static_cast<int>(model.layers.size()), taps = model.kernel_size();
        const int gates = 2 * padded(half);
        const auto skip_peaks = Matrix::row_peaks(
            skip, layer_count * half, [&](int o, int i) { return model.skip.weight.data[o * layer_count * half + i]; });
        for (int l = 0; l < layer_count; ++l) {
            const LayerDescription& given = model.layers[l];
            const auto tap = [&](int index) {
                return Matrix(arena, gates, residual, [&](int o, int i) {
                    const int row = gate_row(o);
                    return row < 0 ? 0.0f : given.convolution.weight.data[(row * taps + index) * residual + i];
                });
            };
            const auto to_residual = [&](int o, int i) {
                return given.residual ? given.residual->data[o * half + i] : 0;
            };
            const auto to_skip = [&](int o, int i) { return model.skip.weight.data[(o * layer_count + l) * half + i]; };
            std::vector<Matrix> past;
            for (int index = 0; index + 1 < taps; ++index) past.push_back(tap(index));
            layers.push_back({given.dilation, (taps - 1) * given.dilation, std::move(past), tap(taps - 1),
                              Matrix(arena, residual, half, to_residual),
                              Matrix(arena, skip, half, to_skip, skip_peaks), Buffer<float>(gates)});
            add_gates([&](int i) { return given.convolution.bias.data[i]; }, layers.back().bias.data());
        }
        for (int row = 0; row < model.table.rows; ++row)
            std::copy_n(model.table.data + static_cast<size_t>(row) * residual, residual,
                        table.begin() + static_cast<size_t>(row) * padded(residual));
    }

    std::unique_ptr<Streams> streams(int batch, int threads) const override;

    int64_t weight_bytes() const override {
        int64_t bytes = head_matrix.bytes() + output_matrix.bytes();
        for (const auto& layer : layers) {
            bytes +=
                layer.newest.bytes() + layer.skip.bytes() + (&layer == &layers.back() ? 0 : layer.residual.bytes());
            for (const auto& tap : layer.past) bytes += tap.bytes();
        }
        return bytes;
    }

    // gates += unpadded(i), of which there are `half` filters and then `half` gates
    template <class Unpadded>
    void add_gates(Unpadded unpadded, float* gates) const {
        for (int i = 0; i < half; ++i) gates[i] += unpadded(i);
        for (int i = 0; i < half; ++i) gates[padded(half) + i] += unpadded(half + i);
    }

    int residual, half, skip, head, outputs, history, signals, rows;
    std::vector<float> decoded, shares;
    std::optional<PredictionDescription> prediction;
    std::unique_ptr<Distribution> distribution;
    Arena arena;
    std::vector<Layer<Format>> layers;
    Matrix head_matrix, output_matrix;
    Buffer<float> table, skip_bias, head_bias, output_bias;

private:
    static size_t room(const Description& model) {
        const auto of = Matrix::room;
        const int residual = model.residual(), half = model.gate() / 2, skip = model.skip.weight.rows;
        const size_t taps = model.kernel_size() * of(2 * padded(half), residual);
        return model.layers.size() * (taps + of(residual, half) + of(skip, half)) + of(model.head.weight.rows, skip) +
               of(model.output.weight.rows, model.head.weight.rows);
    }

    Matrix pack(const Projection& given) {
        const Values& weight = given.weight;
        return Matrix(arena, weight.rows, weight.columns,
                      [&](int o, int i) { return weight.data[o * weight.columns + i]; });
    }

    int gate_row(int padded_row) const {
        const int side = padded_row / padded(half), row = padded_row % padded(half);
        return row < half ? side * half + row : -1;
    }

    static Buffer<float> padded_copy(const Values& vector) {
        Buffer<float> copy(padded(vector.columns));
        std::copy_n(vector.data, vector.columns, copy.begin());
        return copy;
    }
};

inline void pause() {
#if defined(__SSE2__)
    _mm_pause();
#endif
}

// Waits until `counter` reaches `target`: spins briefly, then yields to other threads.
inline void await(const std::atomic<int64_t>& counter, int64_t target) {
    for (int turn = 0; counter.load(std::memory_order_acquire) < target; ++turn)
        if (turn < 4000)
            pause();
        else
            std::this_thread::yield();
}

// Starts a thread; it is not joinable if the system has no more threads.
template <class Work>
std::thread started(Work work) {
    try {
        return std::thread(work);
    } catch (const std::system_error&) {
        return {};
    }
}

// Activations of all streams for several times or layers: a place has a row for each stream.
template <class Stored>
struct Places {
    Places(int count, int batch, int row_width, Stored zero)
        : width(row_width), values(static_cast<size_t>(count) * batch * width, zero),
          peaks(static_cast<size_t>(count) * batch), streams(batch) {}

    Rows<Stored> at(int64_t place) {
        return {values.data() + place * streams * width, width, peaks.data() + place * streams};
    }

    int width;
    Buffer<Stored> values;
    std::vector<float> peaks;
    int streams;
};

// Streams that go through the network together: each weight is read once for all of them.
template <class Format>
class Group {
    using Stored = typename Format::Stored;

public:
    Group(const PackedNetwork<Format>& network, int batch, bool two_threads)
        : network_(network), batch_(batch), two_threads_(two_threads), layers_(static_cast<int>(network.layers.size())),
          gate_width_(2 * padded(network.half)), half_width_(padded(network.half)), x_width_(padded(network.residual)),
          x_(batch * x_width_), row_(x_width_), gates_(static_cast<size_t>(layers_) * batch * gate_width_),
          skip_(batch * padded(network.skip)), head_(batch * padded(network.head)),
          output_(batch * padded(network.outputs)), skip_sums_(skip_.size()), latest_(batch),
          gated_(layers_, batch, half_width_, Format::kZero),
          rounded_(1, batch, std::max(padded(network.skip), padded(network.head)), Format::kZero) {
        for (const auto& layer : network.layers) rings_.emplace_back(layer.context, batch, x_width_, Format::kZero);
        if (network.prediction) predictors_.assign(batch, Predictor(*network.prediction));
    }

    int64_t time() const { return time_; }

    // Row `first` of the arrays belongs to the first stream of this group.
    void load(const StateView& state, int first) {
        time_ = state.time;
        turn_ = 0;
        std::copy_n(state.latest + first, batch_, latest_.begin());
        for (int b = 0; b < batch_; ++b) {
            if (!predictors_.empty())
                predictors_[b].load(time_, state.samples + static_cast<size_t>(first + b) * network_.history);
            each_slot(state, first, b, [&](Rows<Stored> row, float* saved) {
                std::copy_n(saved, network_.residual, row_.begin());
                Format::keep(row_.data(), x_width_, row.row(b), row.peaks[b]);
            });
        }
    }

    void save(StateView& state, int first) {
        state.time = time_;
        std::copy_n(latest_.begin(), batch_, state.latest + first);
        for (int b = 0; b < batch_; ++b) {
            if (!predictors_.empty())
                predictors_[b].save(state.samples + static_cast<size_t>(first + b) * network_.history);
            each_slot(state, first, b, [&](Rows<Stored> row, float* saved) {
                Format::recall(row.row(b), row.peaks[b], network_.residual, saved);
            });
        }
    }

    void run(const Stretch& stretch, const SamplingOptions& options, int first) {
        for (int b = 0; b < static_cast<int>(predictors_.size()); ++b) predictors_[b].begin(stretch, first + b);
        prepared_ = advanced_ = collected_ = 0;
        std::thread second;
        if (two_threads_) second = started([&] { assist(stretch, first); });
        if (!second.joinable()) {
            for (int step = 0; step < stretch.steps; ++step) {
                embed(stretch, first);
                begin_skip();
                for (int l = 0; l < layers_; ++l) {
                    prepare(l, stretch, first, step, turn_);
                    advance(l);
                    collect(l);
                }
                finish(stretch, options, first, step);
            }
            return;
        }
        for (int step = 0; step < stretch.steps; ++step) {
            embed(stretch, first);
            const int64_t done = static_cast<int64_t>(step) * layers_;
            for (int l = 0; l < layers_; ++l) {
                await(prepared_, done + l + 1);
                advance(l);
                advanced_.store(done + l + 1, std::memory_order_release);
            }
            await(collected_, done + layers_);
            finish(stretch, options, first, step);
        }
        second.join();
    }

private:
    // Runs in the second thread: for each step, prepares all layers, then collects them as they advance.
    void assist(const Stretch& stretch, int first) {
        const int64_t turn = turn_;
        for (int step = 0; step < stretch.steps; ++step) {
            const int64_t done = static_cast<int64_t>(step) * layers_;
            for (int l = 0; l < layers_; ++l) {
                prepare(l, stretch, first, step, turn + step);
                prepared_.store(done + l + 1, std::memory_order_release);
            }
            for (int l = 0; l < layers_; ++l) {
                await(advanced_, done + l + 1);
                if (l == 0) begin_skip();  // not earlier: the first thread may still read the previous sums
                collect(l);
            }
            collected_.store(done + layers_, std::memory_order_release);
        }
    }

    // Calls work(slot, its place in the state) for each slot of all layers' rings, the oldest first.
    template <class Work>
    void each_slot(const StateView& state, int first, int b, Work work) {
        for (int l = 0; l < layers_; ++l)
            for (int slot = 0, context = network_.layers[l].context; slot < context; ++slot)
                work(rings_[l].at((turn_ + slot) % context),
                     state.queues[l] + (static_cast<size_t>(first + b) * context + slot) * network_.residual);
    }

    float* gates(int l) { return gates_.data() + static_cast<size_t>(l) * batch_ * gate_width_; }

    // Embeds the newest samples: for each signal a table row, interpolated between two rows, and their sum.
    void embed(const Stretch& stretch, int first) {
        const int rows = network_.rows;
        for (int b = 0; b < batch_; ++b) {
            const float newest = network_.decoded[latest_[b]];
            float signals[4] = {compand(newest, rows)};
            if (!predictors_.empty()) {
                const float error = predictors_[b].take(newest, stretch, first + b);
                signals[1] = compand(predictors_[b].known().mean, rows);
                signals[2] = compand(error / kLargestError, rows);
                signals[3] = compand(predictors_[b].known().scale, 65536);
            }
            float* x = x_.data() + b * x_width_;
            std::fill_n(x, x_width_, 0.0f);
            for (int signal = 0; signal < network_.signals; ++signal) {
                const float place = (signals[signal] + 1) / 2 * static_cast<float>(rows - 1);
                const int below = place > 0 ? std::min(static_cast<int>(place), rows - 2) : 0;
                const float share = place - static_cast<float>(below);
                const float* row = network_.table.data() + (static_cast<size_t>(signal) * rows + below) * x_width_;
                for (int i = 0; i < x_width_; ++i) x[i] += row[i] * (1 - share) + row[x_width_ + i] * share;
            }
        }
    }

    // Starts the gates of layer l: its bias, the conditioning and the past taps.
    void prepare(int l, const Stretch& stretch, int first, int step, int64_t turn) {
        const auto& layer = network_.layers[l];
        for (int b = 0; b < batch_; ++b) {
            float* to = gates(l) + b * gate_width_;
            std::copy(layer.bias.begin(), layer.bias.end(), to);
            if (stretch.biases) {
                const size_t row =
                    static_cast<size_t>(first + b) * stretch.bias_steps + (stretch.bias_steps > 1 ? step : 0);
                const float* biases = stretch.biases + (row * layers_ + l) * 2 * network_.half;
                network_.add_gates([=](int i) { return biases[i]; }, to);
            }
            if (stretch.frames) add_between_frames(l, stretch, first + b, stretch.phase + step, to);
        }
        for (int tap = 0; tap < static_cast<int>(layer.past.size()); ++tap) {
            const int64_t slot = (turn + static_cast<int64_t>(tap) * layer.dilation) % layer.context;
            layer.past[tap].multiply_add(rings_[l].at(slot), gates(l), gate_width_, batch_);
        }
    }

    // gates += the biases of layer l at a place, in samples from the first frame, between those of two frames
    void add_between_frames(int l, const Stretch& stretch, int stream, int place, float* gates) const {
        const int hop = static_cast<int>(network_.shares.size()) / 2, frame = place / hop;
        const size_t width = 2 * network_.half, row = static_cast<size_t>(stream) * stretch.frame_count + frame;
        const float *before = stretch.frames + (row * layers_ + l) * width, *after = before + layers_ * width;
        const float share = network_.shares[2 * (place % hop)], next = network_.shares[2 * (place % hop) + 1];
        network_.add_gates([=](int i) { return before[i] * share + after[i] * next; }, gates);
    }

    // Takes the newest input of layer l, and computes that of the next layer.
    void advance(int l) {
        const auto& layer = network_.layers[l];
        const Rows<Stored> newest = rings_[l].at(turn_ % layer.context), gated = gated_.at(l);
        for (int b = 0; b < batch_; ++b)
            Format::keep(x_.data() + b * x_width_, x_width_, newest.row(b), newest.peaks[b]);
        layer.newest.multiply_add(newest, gates(l), gate_width_, batch_);
        for (int b = 0; b < batch_; ++b) {
            const float *filter = gates(l) + b * gate_width_, *gate = filter + half_width_;
            Format::keep_gated(filter, gate, half_width_, gated.row(b), gated.peaks[b]);
        }
        if (l + 1 < layers_) layer.residual.multiply_add(gated, x_.data(), x_width_, batch_);
    }

    void begin_skip() {
        const auto& bias = network_.skip_bias;
        for (int b = 0; b < batch_; ++b) Format::Matrix::clear(bias, skip_sums_.data() + b * bias.size());
    }

    void collect(int l) {
        const int width = static_cast<int>(network_.skip_bias.size());
        network_.layers[l].skip.accumulate(gated_.at(l), skip_sums_.data(), width, batch_);
    }

    // Computes the output layers and each stream's parameters, and samples its symbol unless it is given.
    void finish(const Stretch& stretch, const SamplingOptions& options, int first, int step) {
        const auto& last = network_.layers.back().skip;
        const size_t skip_width = network_.skip_bias.size();
        for (int b = 0; b < batch_; ++b)  // if a peak is not finite, so is that of the last layer
            last.total(skip_sums_.data() + b * skip_width, gated_.at(layers_ - 1).peaks[b], network_.skip_bias,
                       skip_.data() + b * skip_width);
        project(network_.head_matrix, network_.head_bias, skip_, head_);
        project(network_.output_matrix, network_.output_bias, head_, output_);
        const int width = network_.distribution->parameters();
        for (int b = 0; b < batch_; ++b) {
            const size_t row = static_cast<size_t>(first + b) * stretch.steps + step;
            float* parameters = stretch.parameters + row * width;
            const Prediction* prediction = predictors_.empty() ? nullptr : &predictors_[b].known();
            network_.distribution->place(output_.data() + b * network_.output_bias.size(), prediction, parameters);
            if (stretch.uniforms)
                stretch.symbols[row] =
                    network_.distribution->sample(parameters, stretch.uniforms[row], options, choose_);
            latest_[b] = stretch.symbols[row];
        }
        ++time_;
        ++turn_;
    }

    // y = W relu(x) + bias
    void project(const typename Format::Matrix& matrix, const Buffer<float>& bias, Buffer<float>& x, Buffer<float>& y) {
        for (size_t i = 0; i < x.size(); i += kLanes)
            store(x.data() + i, larger(Floats{}, wavenet::load<Floats>(x.data() + i)));
        const int width = static_cast<int>(x.size()) / batch_;
        const Rows<Stored> rows = rounded_.at(0);
        for (int b = 0; b < batch_; ++b) {
            Format::keep(x.data() + b * width, width, rows.row(b), rows.peaks[b]);
            std::copy(bias.begin(), bias.end(), y.begin() + b * bias.size());
        }
        matrix.multiply_add(rows, y.data(), static_cast<int>(bias.size()), batch_);
    }

    static constexpr float kLargestError = 16.0f;

    const PackedNetwork<Format>& network_;
    const int batch_;
    const bool two_threads_;
    const int layers_, gate_width_, half_width_, x_width_;
    int64_t time_ = 0, turn_ = 0;  // the newest symbol's; steps since `load`
    Buffer<float> x_, row_, gates_, skip_, head_, output_;
    Buffer<typename Format::Sum> skip_sums_;
    std::vector<int64_t> latest_;
    Places<Stored> gated_, rounded_;     // of each layer; the output layers' inputs
    std::vector<Places<Stored>> rings_;  // of each layer: slot turn % context is the oldest
    std::vector<Predictor> predictors_;
    Chooser choose_;
    alignas(64) std::atomic<int64_t> prepared_{0};
    alignas(64) std::atomic<int64_t> advanced_{0};
    alignas(64) std::atomic<int64_t> collected_{0};
};

template <class Format>
class GroupedStreams : public Streams {
public:
    GroupedStreams(std::shared_ptr<const PackedNetwork<Format>> network, int batch, int threads)
        : network_(std::move(network)) {
        const int groups = std::min(batch, threads);
        for (int group = 0; group < groups; ++group) {
            firsts_.push_back(group * batch / groups);
            const int size = (group + 1) * batch / groups - firsts_.back();
            groups_.push_back(std::make_unique<Group<Format>>(*network_, size, threads >= 2 * groups));
        }
    }

    void load(const StateView& state) override {
        for (size_t i = 0; i < groups_.size(); ++i) groups_[i]->load(state, firsts_[i]);
    }

    void save(StateView& state) override {
        for (size_t i = 0; i < groups_.size(); ++i) groups_[i]->save(state, firsts_[i]);
    }

    void run(const Stretch& stretch, const SamplingOptions& options) override {
        std::vector<std::thread> others(groups_.size());
        for (size_t i = 1; i < groups_.size(); ++i)
            others[i] = started([&, i] { groups_[i]->run(stretch, options, firsts_[i]); });
        for (size_t i = 0; i < groups_.size(); ++i)
            if (!others[i].joinable()) groups_[i]->run(stretch, options, firsts_[i]);
        for (auto& thread : others)
            if (thread.joinable()) thread.join();
    }

    int64_t time() const override { return groups_[0]->time(); }

private:
    std::shared_ptr<const PackedNetwork<Format>> network_;
    std::vector<int> firsts_;
    std::vector<std::unique_ptr<Group<Format>>> groups_;
};

template <class Format>
std::unique_ptr<Streams> PackedNetwork<Format>::streams(int batch, int threads) const {
    return std::make_unique<GroupedStreams<Format>>(this->shared_from_this(), batch, threads);
}

}  // namespace
}  // namespace wavenet
