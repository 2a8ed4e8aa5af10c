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

constexpr int kBatch = 5, kSteps = 1000, kHead = 33, kRows = 256, kClasses = 256;

struct Kind {
    const char* name;
    const char* distribution;
    int components, symbols;
    bool predicts;
    int kernel, residual, half, skip;
};

constexpr Kind kKinds[] = {
    {"categorical", "categorical", 0, kClasses, false, 2, 64, 64, 256},
    {"categorical, odd channels", "categorical", 0, kClasses, true, 3, 21, 13, 35},
    {"logistic mixture", "logistic_mixture", 5, 65536, false, 2, 40, 24, 48},
    {"gaussian mixture", "gaussian_mixture", 3, 4096, true, 2, 19, 20, 70},
};

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

// The state of silence, and its memory.
struct Silence {
    explicit Silence(const Description& model)
        : latest(kBatch, model.distribution.decoded.size() / 2),
          samples(kBatch * (model.prediction ? model.prediction->history() : 0)) {
        for (const auto& layer : model.layers)
            queues.emplace_back(kBatch * (model.kernel_size() - 1) * layer.dilation * model.residual());
        for (auto& queue : queues) view.queues.push_back(queue.data());
        view.latest = latest.data();
        view.samples = samples.data();
    }

    std::vector<int64_t> latest;
    std::vector<float> samples;
    std::vector<std::vector<float>> queues;
    StateView view;
};

// Columns `first` to `first + count` of rows of `length`.
template <class T>
std::vector<T> columns(const std::vector<T>& rows, size_t length, size_t first, size_t count) {
    std::vector<T> cut;
    for (size_t row = 0; row < rows.size(); row += length)
        cut.insert(cut.end(), rows.begin() + row + first, rows.begin() + row + first + count);
    return cut;
}

// Draws the symbols if there are uniforms, or follows those in `run`. Halfway the streams pause.
void generate(const Description& model, const char* weights, int threads, const std::vector<float>& uniforms,
              Run& run) {
    const size_t width = model.distribution.components ? 3 * model.distribution.components : kClasses;
    const auto streams = make_network(model, weights)->streams(kBatch, threads);
    Silence state(model);
    run.parameters.clear();
    constexpr int half = kSteps / 2;
    for (int first = 0; first < kSteps; first += half) {
        auto symbols = columns(run.symbols, kSteps, first, half);
        const auto drawn = columns(uniforms, kSteps, first, half);
        std::vector<float> parameters(symbols.size() * width);
        Stretch stretch;
        stretch.steps = half;
        stretch.uniforms = drawn.empty() ? nullptr : drawn.data();
        stretch.symbols = symbols.data();
        stretch.parameters = parameters.data();
        streams->load(state.view);
        streams->run(stretch, SamplingOptions{});
        streams->save(state.view);
        run.parameters.insert(run.parameters.end(), parameters.begin(), parameters.end());
        for (int b = 0; b < kBatch; ++b)
            std::copy_n(symbols.begin() + b * half, half, run.symbols.begin() + b * kSteps + first);
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
        generate(model, "int8", 1, uniforms, whole);
        generate(model, "int8", 2, uniforms, again);
        const bool same = whole.symbols == again.symbols && checksum(whole.parameters) == checksum(again.parameters);
        std::printf("%s: symbols %08x parameters %08x, two threads %s", kind.name, checksum(whole.symbols),
                    checksum(whole.parameters), same ? "the same" : "DIFFERENT");
        Run exact = whole;
        generate(model, "float32", 1, {}, exact);
        for (const char* weights : {"bfloat16", "int8"}) {
            Run rounded = exact;
            generate(model, weights, 1, {}, rounded);
            std::printf(", %s %s", weights, difference(exact.parameters, rounded.parameters) < 0.1 ? "close" : "FAR");
        }
        std::printf("\n");
    }
}
