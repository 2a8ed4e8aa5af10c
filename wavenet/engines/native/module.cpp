// The Python module, built once for each instruction set. It reads and fills Python's arrays in place.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <optional>
#include <stdexcept>

#include "engine.h"
#include "prediction.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace wavenet;

namespace {

// The instruction sets of this processor for which there is a module, the fastest first.
nb::tuple instruction_sets() {
    nb::list names;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")) {
        if (__builtin_cpu_supports("avx512vnni")) names.append("avx512vnni");
        names.append("avx512");
    }
#if defined(WAVENET_HAS_AVXVNNI)
    if (__builtin_cpu_supports("avxvnni") && __builtin_cpu_supports("fma")) names.append("avxvnni");
#endif
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.append("avx2");
#endif
    names.append("baseline");
    return nb::tuple(names);
}

template <class T, int Axes>
using Array = nb::ndarray<T, nb::ndim<Axes>, nb::c_contig, nb::device::cpu>;
using Matrix = Array<const float, 2>;
using Vector = Array<const float, 1>;
using Cube = Array<const float, 3>;

void require(bool condition, const char* what) {
    if (!condition)
        throw std::invalid_argument(std::string("the native engine was given arrays that do not fit: ") + what);
}

template <class Array>
void require_shape(const Array& array, std::initializer_list<size_t> shape, const char* what) {
    size_t axis = 0;
    for (size_t length : shape) require(array.shape(axis++) == length, what);
}

Values values(const Matrix& array) {
    const int rows = static_cast<int>(array.shape(0)), columns = static_cast<int>(array.shape(1));
    return {array.data(), rows, columns, std::make_shared<Matrix>(array)};
}

Values values(const Vector& array) {
    return {array.data(), 1, static_cast<int>(array.shape(0)), std::make_shared<Vector>(array)};
}

Projection projection(const Matrix& weight, const Vector& bias) {
    require(weight.shape(0) == bias.shape(0), "bias");
    return {values(weight), values(bias)};
}

// Returns the description if its parts fit together.
const Description& checked(const Description& model) {
    require(!model.layers.empty(), "layers");
    const int residual = model.residual(), gate = model.gate(), half = gate / 2, taps = model.kernel_size();
    for (const auto& layer : model.layers) {
        const auto& weight = layer.convolution.weight;
        require(layer.dilation > 0 && taps > 0 && gate == 2 * half && weight.rows == gate &&
                    weight.columns == taps * residual,
                "convolution");
        require(layer.residual.has_value() == (&layer != &model.layers.back()), "residual of the last layer");
        require(!layer.residual || (layer.residual->rows == residual && layer.residual->columns == half), "residual");
    }
    const int symbols = static_cast<int>(model.distribution.decoded.size()), components = model.distribution.components;
    require(model.skip.weight.columns == static_cast<int>(model.layers.size()) * half, "skip");
    require(model.head.weight.columns == model.skip.weight.rows, "head");
    require(model.output.weight.columns == model.head.weight.rows, "output");
    const int outputs = components ? 3 * components : model.prediction ? 2 * symbols - 1 : symbols;
    require(model.output.weight.rows == outputs, "outputs");
    require(model.table.rows >= 2 * model.signals() && model.table.rows % model.signals() == 0, "table");
    require(!model.shares || (model.shares->rows > 0 && model.shares->columns == 2), "shares");
    return model;
}

// Packed weights, and the sizes of the arrays that its generators take.
struct Model {
    Model(const Description& given, const std::string& weights)
        : network(make_network(checked(given), weights)), residual(given.residual()),
          gates(given.layers.size() * given.gate()), symbols(given.distribution.decoded.size()),
          parameters(given.distribution.components ? 3 * given.distribution.components : symbols),
          hop(given.shares ? given.shares->rows : 0), prediction(given.prediction) {
        for (const auto& layer : given.layers)
            contexts.push_back(static_cast<size_t>(given.kernel_size() - 1) * layer.dilation);
    }

    std::shared_ptr<const Network> network;
    size_t residual, gates, symbols, parameters;
    int64_t hop;  // of biases of frames; 0 without
    std::optional<PredictionDescription> prediction;
    std::vector<size_t> contexts;
};

class Generator {
public:
    Generator(const Model& model, int batch, int threads) : model_(model), batch_(batch) {
        if (batch < 1 || threads < 1) throw std::invalid_argument("batch or threads is under 1; expected at least 1");
        streams_ = model.network->streams(batch, threads);
    }

    void load(int64_t time, Array<const int64_t, 1> latest, Matrix samples, std::vector<Cube> queues) {
        StateView view = checked_state(latest, samples, queues);
        view.time = time;
        view.latest = const_cast<int64_t*>(latest.data());  // load() only reads
        view.samples = const_cast<float*>(samples.data());
        for (auto& queue : queues) view.queues.push_back(const_cast<float*>(queue.data()));
        for (size_t b = 0; b < batch_; ++b) check_symbol(latest.data()[b]);
        streams_->load(view);
    }

    int64_t save(Array<int64_t, 1> latest, Array<float, 2> samples, std::vector<Array<float, 3>> queues) {
        StateView view = checked_state(latest, samples, queues);
        view.latest = latest.data();
        view.samples = samples.data();
        for (auto& queue : queues) view.queues.push_back(queue.data());
        streams_->save(view);
        return view.time;
    }

    int64_t time() const { return streams_->time(); }

    void run(std::optional<Matrix> uniforms, Array<int64_t, 2> symbols, Array<float, 3> parameters,
             std::optional<Cube> biases, std::optional<Cube> frames, int64_t first_frame,
             std::optional<Array<const double, 3>> correlation, int64_t first_block, const SamplingOptions& options) {
        const size_t steps = symbols.shape(1);
        require_shape(symbols, {batch_, steps}, "symbols");
        require_shape(parameters, {batch_, steps, model_.parameters}, "parameters");
        Stretch stretch;
        stretch.steps = static_cast<int>(steps);
        stretch.symbols = symbols.data();
        stretch.parameters = parameters.data();
        if (uniforms) {
            require_shape(*uniforms, {batch_, steps}, "uniforms");
            stretch.uniforms = uniforms->data();
        } else {
            for (size_t i = 0; i < symbols.size(); ++i) check_symbol(symbols.data()[i]);
        }
        if (biases) {
            require_shape(*biases, {batch_, biases->shape(1) == 1 ? 1 : steps, model_.gates}, "biases");
            stretch.biases = biases->data();
            stretch.bias_steps = static_cast<int>(biases->shape(1));
        }
        if (model_.hop) {
            require(frames.has_value(), "frames");
            const int64_t count = frames->shape(1), phase = time() + 1 - first_frame * model_.hop;
            require_shape(*frames, {batch_, frames->shape(1), model_.gates}, "frames");
            require(phase >= 0 && phase + stretch.steps <= (count - 1) * model_.hop, "frames of other samples");
            stretch.frames = frames->data();
            stretch.frame_count = static_cast<int>(count);
            stretch.phase = static_cast<int>(phase);
        }
        const auto& prediction = model_.prediction;
        if (prediction && prediction->window.empty()) {
            require(correlation.has_value(), "correlation");
            const size_t blocks = correlation->shape(1), order = prediction->order;
            require_shape(*correlation, {batch_, blocks, order + 1}, "correlation");
            stretch.correlation = correlation->data();
            stretch.first_block = first_block;
            stretch.blocks = static_cast<int>(blocks);
            require(first_block <= floor_divide(time(), prediction->block) &&
                        floor_divide(time() + stretch.steps, prediction->block) < first_block + stretch.blocks,
                    "blocks of correlation");
        }
        nb::gil_scoped_release unlocked;
        streams_->run(stretch, options);
    }

private:
    template <class Latest, class Samples, class Queues>
    StateView checked_state(const Latest& latest, const Samples& samples, const Queues& queues) const {
        const size_t history = model_.prediction ? model_.prediction->history() : 0;
        require_shape(latest, {batch_}, "latest");
        require_shape(samples, {batch_, history}, "samples");
        require(queues.size() == model_.contexts.size(), "queues");
        for (size_t l = 0; l < queues.size(); ++l)
            require_shape(queues[l], {batch_, model_.contexts[l], model_.residual}, "queues");
        return {};
    }

    void check_symbol(int64_t symbol) const {
        require(0 <= symbol && symbol < static_cast<int64_t>(model_.symbols), "symbols out of range");
    }

    Model model_;
    size_t batch_;
    std::unique_ptr<Streams> streams_;
};

// The parts of a description, and the description. Python names each field.
void bind_description(nb::module_& module) {
    nb::class_<Projection>(module, "Projection")
        .def(
            "__init__",
            [](Projection* self, Matrix weight, Vector bias) { new (self) Projection(projection(weight, bias)); },
            nb::kw_only(), "weight"_a, "bias"_a);
    nb::class_<LayerDescription>(module, "Layer")
        .def(
            "__init__",
            [](LayerDescription* self, int dilation, const Projection& convolution, std::optional<Matrix> residual) {
                new (self) LayerDescription{dilation, convolution, {}};
                if (residual) self->residual = values(*residual);
            },
            nb::kw_only(), "dilation"_a, "convolution"_a, "residual"_a.none());
    nb::class_<DistributionDescription>(module, "Distribution")
        .def(nb::init<std::string, int, std::vector<float>>(), nb::kw_only(), "kind"_a, "components"_a, "decoded"_a);
    nb::class_<PredictionDescription>(module, "Prediction")
        .def(nb::init<int, int, double, double, std::vector<double>>(), nb::kw_only(), "order"_a, "block"_a,
             "noise_floor"_a, "quietest"_a, "window"_a);
    nb::class_<Description>(module, "Description")
        .def(
            "__init__",
            [](Description* self, std::vector<LayerDescription> layers, const Projection& skip, const Projection& head,
               const Projection& output, Matrix table, std::optional<Matrix> shares,
               const DistributionDescription& distribution, std::optional<PredictionDescription> prediction) {
                new (self) Description{layers, skip, head, output, values(table), {}, distribution, prediction};
                if (shares) self->shares = values(*shares);
            },
            nb::kw_only(), "layers"_a, "skip"_a, "head"_a, "output"_a, "table"_a, "shares"_a.none(), "distribution"_a,
            "prediction"_a.none());
}

}  // namespace

NB_MODULE(WAVENET_MODULE, module) {
    module.def("instruction_sets", &instruction_sets);
    bind_description(module);
    nb::class_<Model>(module, "Model")
        .def(nb::init<const Description&, const std::string&>(), "description"_a, "weights"_a)
        .def_prop_ro("weight_bytes", [](const Model& model) { return model.network->weight_bytes(); });
    nb::class_<SamplingOptions>(module, "SamplingOptions")
        .def(nb::init<double, int, double>(), nb::kw_only(), "temperature"_a, "top_k"_a, "top_p"_a);
    nb::class_<Generator>(module, "Generator")
        .def(nb::init<const Model&, int, int>(), "model"_a, "batch"_a, "threads"_a)
        .def("load", &Generator::load, "time"_a, "latest"_a.noconvert(), "samples"_a.noconvert(),
             "queues"_a.noconvert())
        .def("save", &Generator::save, "latest"_a.noconvert(), "samples"_a.noconvert(), "queues"_a.noconvert())
        .def_prop_ro("time", &Generator::time)
        .def("run", &Generator::run, nb::kw_only(), "uniforms"_a.noconvert().none(), "symbols"_a.noconvert(),
             "parameters"_a.noconvert(), "biases"_a.noconvert().none(), "frames"_a.noconvert().none(), "first_frame"_a,
             "correlation"_a.noconvert().none(), "first_block"_a, "options"_a);
    module.def("read_rate", &read_rate, "working_set"_a, nb::call_guard<nb::gil_scoped_release>());
    module.def("multiply_add_rate", &multiply_add_rate, nb::call_guard<nb::gil_scoped_release>());
}
