// The Fourier transform, log-mel features and autocorrelations, as in features.py and prediction.py, in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <utility>
#include <vector>

#include "model_reader.h"

namespace wavenet {
namespace {

// In place, of a power of two of points.
class Fourier {
public:
    explicit Fourier(int points) : twiddles_(points / 2), bit_reversed_(points) {
        const double angle = -2 * std::acos(-1.0) / points;
        for (int k = 0; k < points / 2; ++k) twiddles_[k] = std::polar(1.0, angle * k);
        for (int i = 0; i < points; ++i)
            for (int bit = 1; bit < points; bit *= 2) bit_reversed_[i] = bit_reversed_[i] * 2 + (i / bit & 1);
    }

    int points() const { return static_cast<int>(bit_reversed_.size()); }

    void operator()(std::complex<double>* x) const {
        for (int i = 0; i < points(); ++i)
            if (i < bit_reversed_[i]) std::swap(x[i], x[bit_reversed_[i]]);
        for (int half = 1; half < points(); half *= 2)
            for (int first = 0; first < points(); first += 2 * half)
                for (int k = 0; k < half; ++k) {
                    const auto even = x[first + k];
                    const auto odd = x[first + k + half] * twiddles_[k * (points() / (2 * half))];
                    x[first + k] = even + odd;
                    x[first + k + half] = even - odd;
                }
    }

private:
    std::vector<std::complex<double>> twiddles_;
    std::vector<int> bit_reversed_;
};

// The power spectrum of frequencies 0 to half the sample rate, under a window.
class PowerSpectrum {
public:
    explicit PowerSpectrum(std::vector<float> window)
        : window_(std::move(window)), fourier_(static_cast<int>(window_.size())), x_(window_.size()),
          power_(window_.size() / 2 + 1) {}

    int points() const { return fourier_.points(); }

    // `sample(i)` is the i-th sample under the window.
    template <class Sample>
    const std::vector<double>& operator()(Sample sample) {
        for (int i = 0; i < points(); ++i) x_[i] = window_[i] * sample(i);
        fourier_(x_.data());
        for (size_t k = 0; k < power_.size(); ++k) power_[k] = std::norm(x_[k]);
        return power_;
    }

private:
    std::vector<float> window_;
    Fourier fourier_;
    std::vector<std::complex<double>> x_;
    std::vector<double> power_;
};

// Few of the entries of a matrix, row by row: y = W x.
struct Sparse {
    explicit Sparse(ModelReader& reader)
        : begins(reader.list<int32_t>()), columns(reader.list<int32_t>()), entries(reader.list<double>()) {}

    template <class Number>
    double row(int index, const Number* x) const {
        double sum = 0;
        for (int i = begins[index]; i < begins[index + 1]; ++i) sum += entries[i] * x[columns[i]];
        return sum;
    }

    int rows() const { return static_cast<int>(begins.size()) - 1; }

    std::vector<int32_t> begins, columns;
    std::vector<double> entries;
};

// A recording to log-mel features.
class LogMel {
public:
    explicit LogMel(ModelReader& reader)
        : hop_(reader.whole()), lead_(reader.whole()), magnitudes_(reader.whole()), floor_(reader.number()),
          factor_(reader.number()), spectrum_(reader.list<float>()), bands_(reader) {}

    int bins() const { return bands_.rows(); }
    int hop() const { return hop_; }

    // The frames of all samples, one after the other; beyond the samples there are zeros.
    std::vector<float> operator()(const float* samples, int count) {
        std::vector<float> features;
        for (int frame = 0; frame <= count / hop_; ++frame) {
            const int first = frame * hop_ - lead_;
            std::vector<double> values =
                spectrum_([&](int i) { return first + i >= 0 && first + i < count ? samples[first + i] : 0.0f; });
            if (magnitudes_)
                for (double& value : values) value = std::sqrt(value);
            for (int bin = 0; bin < bins(); ++bin) {
                const double value = bands_.row(bin, values.data());
                features.push_back(static_cast<float>(std::log(std::max(value, floor_)) * factor_));
            }
        }
        return features;
    }

private:
    int hop_, lead_, magnitudes_;
    double floor_, factor_;
    PowerSpectrum spectrum_;
    Sparse bands_;  // bins x points
};

// Features, interpolated to the middle of a block, to autocorrelations of lags 0 to order.
class Correlation {
public:
    Correlation(ModelReader& reader, const PredictionDescription& prediction, int hop)
        : order_(prediction.order), block_(prediction.block), hop_(hop), interpolation_(reader),
          offset_(reader.list<double>()), fourier_(2 * (interpolation_.rows() - 1)), x_(fourier_.points()) {}

    // `frame(f)` is a pointer to the features of frame f.
    template <class Frame>
    void operator()(int64_t block, const Frame& frame, double* to) {
        const double place = ((static_cast<double>(block) + 0.5) * block_ - 0.5) / hop_, before = std::floor(place);
        const float *first = frame(static_cast<int64_t>(before)), *second = frame(static_cast<int64_t>(before) + 1);
        const int last = interpolation_.rows() - 1;
        for (int k = 0; k <= last; ++k) {
            const double between = interpolation_.row(k, first) * (1 - (place - before)) +
                                   interpolation_.row(k, second) * (place - before);
            x_[k] = std::exp(between + offset_[k]);
            if (k > 0 && k < last) x_[2 * last - k] = x_[k];
        }
        fourier_(x_.data());
        for (int lag = 0; lag <= order_; ++lag) to[lag] = x_[lag].real() / fourier_.points();
    }

private:
    int order_, block_, hop_;
    Sparse interpolation_;  // points x bins
    std::vector<double> offset_;
    Fourier fourier_;
    std::vector<std::complex<double>> x_;
};

}  // namespace
}  // namespace wavenet
