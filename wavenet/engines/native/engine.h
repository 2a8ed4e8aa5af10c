// The engine's interface, as the Python module uses it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace wavenet {

// A row-major float32 array from Python. The engine reads it only while it packs the weights.
struct Values {
    const float* data = nullptr;
    int rows = 0, columns = 0;          // a vector is one row
    std::shared_ptr<const void> owner;  // keeps the memory alive
};

// y = weight x + bias
struct Projection {
    Values weight;  // outputs x inputs
    Values bias;    // 1 x outputs
};

struct LayerDescription {
    int dilation = 1;
    Projection convolution;          // gate x (kernel_size * residual), the oldest tap first
    std::optional<Values> residual;  // residual x gate / 2; the last layer has none
};

struct DistributionDescription {
    std::string kind;            // "categorical", "logistic_mixture" or "gaussian_mixture"
    int components = 0;          // of a mixture
    std::vector<float> decoded;  // the waveform value of each symbol
};

struct PredictionDescription {
    int order = 1, block = 1;
    double noise_floor = 0, quietest = 0;
    std::vector<double> window;  // weights of the past samples; empty if features give the autocorrelation

    int history() const { return window.empty() ? order : static_cast<int>(window.size()) + block; }
};

// A model before it is packed.
struct Description {
    std::vector<LayerDescription> layers;
    Projection skip, head, output;
    Values table;                  // of the embedding: (signals * rows) x residual
    std::optional<Values> shares;  // hop x 2: of a frame's biases and of the next frame's, at each sample from it on
    DistributionDescription distribution;
    std::optional<PredictionDescription> prediction;

    int residual() const { return table.columns; }
    int gate() const { return layers[0].convolution.weight.rows; }
    int kernel_size() const { return layers[0].convolution.weight.columns / residual(); }
    int signals() const { return prediction ? 4 : 1; }
};

struct SamplingOptions {
    double temperature = 1.0;
    int top_k = 0;       // 0 is off
    double top_p = 0.0;  // 0 is off
};

// T steps for all B streams: row-major arrays, a row for each stream.
struct Stretch {
    int steps = 0;
    const float* uniforms = nullptr;      // B x T, or null: then `symbols` are inputs
    const float* biases = nullptr;        // B x (T or 1) x (layers * gate), or null
    int bias_steps = 0;                   // T or 1
    const float* frames = nullptr;        // B x F x (layers * gate), biases that are interpolated and added; or null
    int frame_count = 0;                  // F
    int phase = 0;                        // samples from the first frame to the first step's
    const double* correlation = nullptr;  // B x blocks x (order + 1), lag 0 first, or null
    int64_t first_block = 0;
    int blocks = 0;
    int64_t* symbols = nullptr;   // B x T
    float* parameters = nullptr;  // B x T x parameters
};

// `latest` is the newest symbol of each stream, the input of the next step; `time` is its time.
struct StateView {
    int64_t time = 0;
    int64_t* latest = nullptr;   // B
    float* samples = nullptr;    // B x history, the samples before `time`
    std::vector<float*> queues;  // for each layer B x context x residual, oldest first
};

class Streams {
public:
    virtual ~Streams() = default;
    virtual void load(const StateView& state) = 0;
    virtual void save(StateView& state) = 0;
    virtual int64_t time() const = 0;  // of the newest symbol
    virtual void run(const Stretch& stretch, const SamplingOptions& options) = 0;
};

class Network {
public:
    virtual ~Network() = default;
    virtual std::unique_ptr<Streams> streams(int batch, int threads) const = 0;
    virtual int64_t weight_bytes() const = 0;
};

std::shared_ptr<const Network> make_network(const Description& model, const std::string& weights);
std::shared_ptr<const Network> make_int8_network(const Description& model);  // in a file of its own: see simd.h

double read_rate(int64_t bytes);  // bytes per second when a buffer of this size is read repeatedly
double multiply_add_rate();       // float32 multiply-adds per second

}  // namespace wavenet
