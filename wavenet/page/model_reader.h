// Reads a model as packing.py writes it: numbers without names, in the order in which they are asked for.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "../engines/native/engine.h"

namespace wavenet {
namespace {

class ModelReader {
public:
    explicit ModelReader(const char* at) : at_(at) {}

    int whole() { return take<int32_t>(); }
    double number() { return take<double>(); }

    // As many numbers as stand before them.
    template <class T>
    std::vector<T> list() {
        std::vector<T> numbers(whole());
        if (!numbers.empty()) std::memcpy(numbers.data(), at_, numbers.size() * sizeof(T));
        at_ += numbers.size() * sizeof(T);
        return numbers;
    }

    // Float32 numbers: `rows` of them, or rows x columns.
    Values values(int rows, int columns) {
        const auto numbers = std::make_shared<std::vector<float>>(list<float>());
        return {numbers->data(), rows, columns, numbers};
    }

    // Bytes with a peak for each row: the engine rounds these values to the same bytes.
    Values rounded(int rows, int columns) {
        const std::vector<float> peaks = list<float>();
        const std::vector<int8_t> bytes = list<int8_t>();
        const auto numbers = std::make_shared<std::vector<float>>(bytes.size());
        for (int row = 0; row < rows; ++row)
            for (int i = row * columns; i < (row + 1) * columns; ++i)
                (*numbers)[i] = static_cast<float>(bytes[i]) / 127 * peaks[row];
        return {numbers->data(), rows, columns, numbers};
    }

    Projection projection(int outputs, int inputs) {
        const Values weight = rounded(outputs, inputs);
        return {weight, values(1, outputs)};
    }

private:
    template <class T>
    T take() {
        T value;
        std::memcpy(&value, at_, sizeof value);
        at_ += sizeof value;
        return value;
    }

    const char* at_;
};

struct Shape {
    explicit Shape(ModelReader& reader)
        : layers(reader.whole()), taps(reader.whole()), residual(reader.whole()), gate(reader.whole()),
          skip(reader.whole()), head(reader.whole()), outputs(reader.whole()), table(reader.whole()) {}

    int layers, taps, residual, gate, skip, head, outputs, table;
};

// The taps of a convolution, which are rounded one by one, side by side.
inline Projection read_convolution(ModelReader& reader, const Shape& shape) {
    const auto weight = std::make_shared<std::vector<float>>(shape.gate * shape.taps * shape.residual);
    for (int tap = 0; tap < shape.taps; ++tap) {
        const Values one = reader.rounded(shape.gate, shape.residual);
        for (int row = 0; row < shape.gate; ++row)
            std::memcpy(weight->data() + (row * shape.taps + tap) * shape.residual, one.data + row * shape.residual,
                        shape.residual * sizeof(float));
    }
    return {{weight->data(), shape.gate, shape.taps * shape.residual, weight}, reader.values(1, shape.gate)};
}

inline DistributionDescription read_distribution(ModelReader& reader) {
    static const char* kinds[] = {"categorical", "logistic_mixture", "gaussian_mixture"};
    DistributionDescription distribution{kinds[reader.whole()], reader.whole(), {}};
    const int symbols = reader.whole(), half = symbols / 2;
    distribution.decoded = reader.list<float>();
    if (distribution.components)  // the levels of a mixture are equally far apart, and are not listed
        for (int symbol = 0; symbol < symbols; ++symbol)
            distribution.decoded.push_back(static_cast<float>(symbol - half) / static_cast<float>(half));
    return distribution;
}

inline std::optional<PredictionDescription> read_prediction(ModelReader& reader) {
    PredictionDescription prediction;
    prediction.order = reader.whole();
    if (!prediction.order) return {};
    prediction.block = reader.whole();
    prediction.noise_floor = reader.number();
    prediction.quietest = reader.number();
    prediction.window = reader.list<double>();
    return prediction;
}

inline Description read_description(ModelReader& reader) {
    const Shape shape(reader);
    Description model;
    for (int l = 0; l < shape.layers; ++l) {
        LayerDescription layer;
        layer.dilation = reader.whole();
        layer.convolution = read_convolution(reader, shape);
        if (l + 1 < shape.layers) layer.residual = reader.rounded(shape.residual, shape.gate / 2);
        model.layers.push_back(layer);
    }
    model.skip = reader.projection(shape.skip, shape.layers * shape.gate / 2);
    model.head = reader.projection(shape.head, shape.skip);
    model.output = reader.projection(shape.outputs, shape.head);
    model.table = reader.values(shape.table, shape.residual);
    model.distribution = read_distribution(reader);
    model.prediction = read_prediction(reader);
    return model;
}

}  // namespace
}  // namespace wavenet
