// Runs small models, whose weights come from an integer recipe, through the native engine's core, and prints what they
// give. The same lines come from every compiler and processor: `make portable` compares them with expected.txt.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "../../wavenet/engines/native/engine.h"

using namespace wavenet;

namespace {

// A linear congruential generator; each number is exact in float32.
class Recipe {
public:
    float uniform() {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<float>(state_ >> 40) / 16777216.0f;
    }

    Values values(int rows, int columns, float width) {
        auto numbers = std::make_shared<std::vector<float>>(static_cast<size_t>(rows) * columns);
        for (float& number : *numbers) number = (uniform() - 0.5f) * width;
        return {numbers->data(), rows, columns, numbers};
    }

    Projection projection(int outputs, int inputs, float width) {
        const Values weight = values(outputs, inputs, width);
        return {weight, values(1, outputs, width)};
    }

private:
    uint64_t state_ = 1;
};

struct Kind {
    const char* name;
    const char* distribution;
    int components, symbols;
    bool predicts;
    int kernel, residual, half, skip;
};

constexpr Kind kKinds[] = {
    {"categorical", "categorical", 0, 256, false, 2, 64, 64, 256},
    {"categorical, odd channels", "categorical", 0, 256, true, 3, 21, 13, 35},
    {"logistic mixture", "logistic_mixture", 5, 65536, false, 2, 40, 24, 48},
    {"gaussian mixture", "gaussian_mixture", 3, 4096, true, 2, 19, 20, 70},
};
constexpr int kBatch = 5, kSteps = 1000, kHead = 33, kRows = 256;

float decoded(int symbol, int symbols) {
    return (2.0f * static_cast<float>(symbol) - static_cast<float>(symbols - 1)) / static_cast<float>(symbols - 1);
}

Description description(const Kind& kind, Recipe& recipe) {
    Description model;
    const int layers = 5, outputs = kind.components ? 3 * kind.components
                                    : kind.predicts ? 2 * kind.symbols - 1
                                                    : kind.symbols;
    for (int l = 0; l < layers; ++l) {
        LayerDescription layer;
        layer.dilation = 1 << l;
        layer.convolution = recipe.projection(2 * kind.half, kind.kernel * kind.residual, 0.6f);
        if (l + 1 < layers) layer.residual = recipe.values(kind.residual, kind.half, 0.4f);
        model.layers.push_back(layer);
    }
    model.skip = recipe.projection(kind.skip, layers * kind.half, 0.5f);
    model.head = recipe.projection(kHead, kind.skip, 0.3f);
    model.output = recipe.projection(outputs, kHead, kind.components ? 0.3f : 2.0f);
    if (kind.predicts) model.prediction = PredictionDescription{9, 7, 1e-4, 1e-10, std::vector<double>(40, 0.5)};
    model.table = recipe.values(kRows * model.signals(), kind.residual, 2.0f);
    model.distribution = {kind.distribution, kind.components, {}};
    for (int symbol = 0; symbol < kind.symbols; ++symbol)
        model.distribution.decoded.push_back(decoded(symbol, kind.symbols));
    return model;
}

struct Run {
    std::vector<int64_t> symbols = std::vector<int64_t>(kBatch * kSteps);
    std::vector<float> parameters;
};

// Draws the symbols, or follows those in `run`.
void generate(const Description& model, const char* weights, int threads, const float* uniforms, Run& run) {
    const int components = model.distribution.components;
    const size_t width = components ? 3 * components : model.distribution.decoded.size();
    run.parameters.assign(run.symbols.size() * width, 0.0f);
    const auto network = make_network(model, weights);
    const auto streams = network->streams(kBatch, threads);
    std::vector<int64_t> latest(kBatch, model.distribution.decoded.size() / 2);
    std::vector<float> samples(kBatch * (model.prediction ? model.prediction->history() : 0));
    std::vector<std::vector<float>> queues;
    StateView state;
    for (const auto& layer : model.layers)
        queues.emplace_back(kBatch * (model.kernel_size() - 1) * layer.dilation * model.residual());
    for (auto& queue : queues) state.queues.push_back(queue.data());
    state.latest = latest.data();
    state.samples = samples.data();
    Stretch stretch;
    for (int half = 0; half < 2; ++half) {  // with a pause, through the state
        streams->load(state);
        Run part;
        part.symbols.resize(kBatch * kSteps / 2);
        part.parameters.resize(part.symbols.size() * width);
        std::vector<float> drawn(part.symbols.size());
        for (int b = 0; b < kBatch; ++b)
            for (int step = 0; step < kSteps / 2; ++step) {
                const int from = b * kSteps + half * kSteps / 2 + step, to = b * kSteps / 2 + step;
                if (uniforms) drawn[to] = uniforms[from];
                part.symbols[to] = run.symbols[from];
            }
        stretch.steps = kSteps / 2;
        stretch.uniforms = uniforms ? drawn.data() : nullptr;
        stretch.symbols = part.symbols.data();
        stretch.parameters = part.parameters.data();
        streams->run(stretch, SamplingOptions{});
        streams->save(state);
        for (int b = 0; b < kBatch; ++b) {
            const size_t to = b * kSteps + half * kSteps / 2, from = b * kSteps / 2;
            std::copy_n(part.symbols.begin() + from, kSteps / 2, run.symbols.begin() + to);
            std::copy_n(part.parameters.begin() + from * width, kSteps / 2 * width,
                        run.parameters.begin() + to * width);
        }
    }
}

// FNV-1a
template <class T>
uint32_t checksum(const std::vector<T>& numbers) {
    uint32_t sum = 2166136261u;
    const unsigned char* bytes = reinterpret_cast<const unsigned char*>(numbers.data());
    for (size_t i = 0; i < numbers.size() * sizeof(T); ++i) sum = (sum ^ bytes[i]) * 16777619u;
    return sum;
}

// The root of the mean squared difference, as a share of the deviation from zero.
double difference(const std::vector<float>& a, const std::vector<float>& b) {
    double squares = 0, scale = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        squares += (a[i] - b[i]) * static_cast<double>(a[i] - b[i]);
        scale += a[i] * static_cast<double>(a[i]);
    }
    return std::sqrt(squares / scale);
}

}  // namespace

int main() {
    for (const Kind& kind : kKinds) {
        Recipe recipe;
        const Description model = description(kind, recipe);
        std::vector<float> uniforms(kBatch * kSteps);
        for (float& uniform : uniforms) uniform = recipe.uniform();
        Run whole, again;
        generate(model, "int8", 1, uniforms.data(), whole);
        generate(model, "int8", 2, uniforms.data(), again);
        const bool same = whole.symbols == again.symbols && checksum(whole.parameters) == checksum(again.parameters);
        std::printf("%s: symbols %08x parameters %08x, two threads %s", kind.name, checksum(whole.symbols),
                    checksum(whole.parameters), same ? "the same" : "DIFFERENT");
        Run exact = whole;
        generate(model, "float32", 1, nullptr, exact);
        for (const char* weights : {"bfloat16", "int8"}) {
            Run rounded = exact;
            generate(model, weights, 1, nullptr, rounded);
            std::printf(", %s %s", weights, difference(exact.parameters, rounded.parameters) < 0.1 ? "close" : "FAR");
        }
        std::printf("\n");
    }
}
