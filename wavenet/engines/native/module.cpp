// The Python module, built once for each instruction set; arrays are handed over without copies.
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

// The instruction sets that this processor has, the widest first. There is a module for each.
nb::tuple instruction_sets() {
    nb::list names;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        names.append("avx512");
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.append("avx2");
#endif
    names.append("baseline");
    return nb::tuple(names);
}

template <class T, class... Shape>
using Array = nb::ndarray<T, Shape..., nb::c_contig, nb::device::cpu>;
using Matrix = Array<const float, nb::ndim<2>>;
using Vector = Array<const float, nb::ndim<1>>;

void require(bool condition, const char* what) {
    if (!condition)
        throw std::invalid_argument(std::string("the native engine was given arrays that do not fit: ") + what);
}

struct Model {
    std::shared_ptr<const Network> network;
    Description description;
    int history;
    int parameters;
};

class Generator {
public:
    Generator(const Model& model, int batch, int threads)
        : model_(model), batch_(batch), streams_(model.network->streams(batch, threads)) {}

    void load(int64_t time, Array<const int64_t, nb::ndim<1>> latest, Matrix samples,
              std::vector<Array<const float, nb::ndim<3>>> queues) {
        StateView view = checked(latest, samples, queues);
        view.time = time;
        view.latest = const_cast<int64_t*>(latest.data());  // load() only reads
        view.samples = const_cast<float*>(samples.data());
        for (auto& queue : queues) view.queues.push_back(const_cast<float*>(queue.data()));
        for (int b = 0; b < batch_; ++b) check_symbol(latest.data()[b]);
        streams_->load(view);
    }

    int64_t save(Array<int64_t, nb::ndim<1>> latest, Array<float, nb::ndim<2>> samples,
                 std::vector<Array<float, nb::ndim<3>>> queues) const {
        StateView view = checked(latest, samples, queues);
        view.latest = latest.data();
        view.samples = samples.data();
        for (auto& queue : queues) view.queues.push_back(queue.data());
        streams_->save(view);
        return view.time;
    }

    int64_t time() const { return streams_->time(); }

    void run(std::optional<Matrix> uniforms, Array<int64_t, nb::ndim<2>> symbols, Array<float, nb::ndim<3>> parameters,
             std::optional<Array<const float, nb::ndim<3>>> biases,
             std::optional<Array<const double, nb::ndim<3>>> correlation, int64_t first_block, double temperature,
             int top_k, double top_p) {
        Stretch stretch;
        stretch.steps = static_cast<int>(symbols.shape(1));
        require(symbols.shape(0) == static_cast<size_t>(batch_), "symbols");
        require(parameters.shape(0) == symbols.shape(0) && parameters.shape(1) == symbols.shape(1) &&
                    parameters.shape(2) == static_cast<size_t>(model_.parameters),
                "parameters");
        stretch.symbols = symbols.data();
        stretch.parameters = parameters.data();
        if (uniforms) {
            require(uniforms->shape(0) == symbols.shape(0) && uniforms->shape(1) == symbols.shape(1), "uniforms");
            stretch.uniforms = uniforms->data();
        } else {
            for (size_t i = 0; i < symbols.size(); ++i) check_symbol(symbols.data()[i]);
        }
        if (biases) {
            const auto& model = model_.description;
            require(biases->shape(0) == symbols.shape(0) &&
                        (biases->shape(1) == 1 || biases->shape(1) == symbols.shape(1)) &&
                        biases->shape(2) == model.dilations.size() * model.gate,
                    "biases");
            stretch.biases = biases->data();
            stretch.bias_steps = static_cast<int>(biases->shape(1));
        }
        if (correlation) {
            require(correlation->shape(0) == symbols.shape(0) &&
                        correlation->shape(2) == static_cast<size_t>(model_.description.order) + 1,
                    "correlation");
            stretch.correlation = correlation->data();
            stretch.first_block = first_block;
            stretch.blocks = static_cast<int>(correlation->shape(1));
        }
        if (model_.description.order && model_.description.window.empty()) {
            const int block = model_.description.block;
            require(correlation && first_block <= floor_divide(time(), block) &&
                        floor_divide(time() + stretch.steps, block) < first_block + stretch.blocks,
                    "blocks of correlation");
        }
        nb::gil_scoped_release unlocked;
        streams_->run(stretch, SamplingOptions{temperature, top_k, top_p});
    }

private:
    template <class Latest, class Samples, class Queues>
    StateView checked(const Latest& latest, const Samples& samples, const Queues& queues) const {
        const auto& model = model_.description;
        const size_t batch = batch_;
        require(latest.shape(0) == batch && samples.shape(0) == batch &&
                    samples.shape(1) == static_cast<size_t>(model_.history),
                "samples");
        require(queues.size() == model.dilations.size(), "queues");
        for (size_t l = 0; l < queues.size(); ++l)
            require(queues[l].shape(0) == batch &&
                        queues[l].shape(1) == static_cast<size_t>(model.kernel_size - 1) * model.dilations[l] &&
                        queues[l].shape(2) == static_cast<size_t>(model.residual),
                    "queues");
        return {};
    }

    void check_symbol(int64_t symbol) const {
        require(0 <= symbol && symbol < static_cast<int64_t>(model_.description.decoded.size()),
                "symbols out of range");
    }

    Model model_;
    int batch_;
    std::unique_ptr<Streams> streams_;
};

Model make_model(const std::string& weights, int kernel_size, std::vector<int> dilations,
                 std::vector<Matrix> convolutions, Matrix convolution_biases, std::vector<Matrix> residuals,
                 Matrix skip, Vector skip_bias, Matrix head, Vector head_bias, Matrix output, Vector output_bias,
                 Matrix table, int rows, Vector decoded, const std::string& distribution, int components, int order,
                 int block, double noise_floor, double quietest, std::vector<double> window) {
    Description model;
    model.kernel_size = kernel_size;
    model.dilations = dilations;
    model.residual = static_cast<int>(table.shape(1));
    model.gate = static_cast<int>(convolution_biases.shape(1));
    model.skip = static_cast<int>(skip.shape(0));
    model.head = static_cast<int>(head.shape(0));
    model.outputs = static_cast<int>(output.shape(0));
    const size_t layers = dilations.size(), half = model.gate / 2;
    require(layers > 0 && convolutions.size() == layers && residuals.size() + 1 == layers &&
                convolution_biases.shape(0) == layers,
            "layers");
    for (auto& matrix : convolutions) {
        require(matrix.shape(0) == 2 * half && matrix.shape(1) == static_cast<size_t>(kernel_size) * model.residual,
                "convolutions");
        model.convolutions.push_back(matrix.data());
    }
    for (auto& matrix : residuals) {
        require(matrix.shape(0) == static_cast<size_t>(model.residual) && matrix.shape(1) == half, "residuals");
        model.residuals.push_back(matrix.data());
    }
    require(skip.shape(1) == layers * half && head.shape(1) == skip.shape(0) && output.shape(1) == head.shape(0),
            "projections");
    require(skip_bias.shape(0) == skip.shape(0) && head_bias.shape(0) == head.shape(0) &&
                output_bias.shape(0) == output.shape(0),
            "biases");
    model.signals = static_cast<int>(table.shape(0)) / rows;
    model.rows = rows;
    require(rows >= 2 && model.signals * rows == static_cast<int>(table.shape(0)) && model.signals == (order ? 4 : 1),
            "table");
    model.convolution_biases = convolution_biases.data();
    model.skip_weight = skip.data(), model.skip_bias = skip_bias.data();
    model.head_weight = head.data(), model.head_bias = head_bias.data();
    model.output_weight = output.data(), model.output_bias = output_bias.data();
    model.table = table.data();
    model.decoded.assign(decoded.data(), decoded.data() + decoded.shape(0));
    model.distribution = distribution, model.components = components;
    const int symbols = static_cast<int>(decoded.shape(0)), parameters = components ? 3 * components : symbols;
    require(model.outputs == (components ? parameters : order ? 2 * symbols - 1 : symbols), "outputs");
    model.order = order, model.block = block, model.noise_floor = noise_floor, model.quietest = quietest,
    model.window = window;
    const int history = order == 0 ? 0 : window.empty() ? order : static_cast<int>(window.size()) + block;
    return {make_network(model, weights), model, history, parameters};
}

}  // namespace

NB_MODULE(WAVENET_MODULE, module) {
    module.def("instruction_sets", &instruction_sets);
    nb::class_<Model>(module, "Model").def_prop_ro("weight_bytes", [](const Model& model) {
        return model.network->weight_bytes();
    });
    module.def("model", &make_model, nb::kw_only(), "weights"_a, "kernel_size"_a, "dilations"_a, "convolutions"_a,
               "convolution_biases"_a, "residuals"_a, "skip"_a, "skip_bias"_a, "head"_a, "head_bias"_a, "output"_a,
               "output_bias"_a, "table"_a, "rows"_a, "decoded"_a, "distribution"_a, "components"_a, "order"_a,
               "block"_a, "noise_floor"_a, "quietest"_a, "window"_a);
    nb::class_<Generator>(module, "Generator")
        .def(nb::init<const Model&, int, int>(), "model"_a, "batch"_a, "threads"_a)
        .def("load", &Generator::load, "time"_a, "latest"_a.noconvert(), "samples"_a.noconvert(),
             "queues"_a.noconvert())
        .def("save", &Generator::save, "latest"_a.noconvert(), "samples"_a.noconvert(), "queues"_a.noconvert())
        .def_prop_ro("time", &Generator::time)
        .def("run", &Generator::run, nb::kw_only(), "uniforms"_a.noconvert().none(), "symbols"_a.noconvert(),
             "parameters"_a.noconvert(), "biases"_a.noconvert().none(), "correlation"_a.noconvert().none(),
             "first_block"_a, "temperature"_a, "top_k"_a, "top_p"_a);
    module.def(
        "read_rate",
        [](int64_t bytes) {
            nb::gil_scoped_release unlocked;
            return read_rate(bytes);
        },
        "working_set"_a);
    module.def("multiply_add_rate", [] {
        nb::gil_scoped_release unlocked;
        return multiply_add_rate();
    });
}
