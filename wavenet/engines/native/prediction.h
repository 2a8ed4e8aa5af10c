// Linear prediction of one stream, one sample at a time, as in prediction.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine.h"
#include "matrix.h"
#include "sampling.h"

namespace wavenet {
namespace {

inline int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

// Has the newest samples and the coefficients of the current block.
class Predictor {
public:
    explicit Predictor(const PredictionDescription& given)
        : order_(given.order), block_(given.block), floor_(given.noise_floor), quietest_(given.quietest),
          window_(given.window), history_(given.history()), samples_(2 * history_), coefficients_(padded(order_)),
          solution_(order_), mirror_(order_), lags_(order_ + 1), reversed_(order_ + 1) {
        for (double weight : window_) window_power_ += weight * weight;
    }

    // `samples` are the `history` samples before `time`.
    void load(int64_t time, const float* samples) {
        time_ = time;
        end_ = history_;
        std::copy_n(samples, history_, samples_.begin());
        fitted_ = false;
    }

    void save(float* samples) const { std::copy_n(samples_.begin() + (end_ - history_), history_, samples); }

    // Predicts the sample at `time` unless that is done.
    void begin(const Stretch& stretch, int stream) {
        if (!fitted_) predict(stretch, stream);
    }

    const Prediction& known() const { return known_; }

    // Takes the sample that `known` predicted, and predicts the next. Returns the error relative to the expected one.
    float take(float newest, const Stretch& stretch, int stream) {
        const float error = (newest - known_.mean) / known_.scale;
        if (end_ == static_cast<int>(samples_.size())) {  // once in `history` samples they move to the front
            std::copy(samples_.end() - history_, samples_.end(), samples_.begin());
            end_ = history_;
        }
        samples_[end_++] = newest;
        ++time_;
        predict(stretch, stream);
        return error;
    }

private:
    void predict(const Stretch& stretch, int stream) {
        const int64_t block = floor_divide(time_, block_);
        if (!fitted_ || block != fitted_block_) {
            if (window_.empty())
                solve(stretch.correlation +
                      (static_cast<int64_t>(stream) * stretch.blocks + block - stretch.first_block) * (order_ + 1));
            else
                fit_past(block);
            fitted_ = true;
            fitted_block_ = block;
        }
        const float mean = dot(samples_.data() + end_ - order_, coefficients_.data(), order_);
        known_ = {std::min(1.0f, std::max(-1.0f, mean)), scale_};
    }

    void fit_past(int64_t block) {
        const int length = static_cast<int>(window_.size());
        const float* begin = samples_.data() + end_ - (time_ - block * block_) - length;
        weighted_.resize(length);
        for (int i = 0; i < length; ++i) weighted_[i] = begin[i] * window_[i];
        for (int lag = 0; lag <= order_; ++lag)
            lags_[lag] = dot(weighted_.data() + lag, weighted_.data(), length - lag) / window_power_;
        solve(lags_.data());
    }

    // The Levinson-Durbin recursion. The coefficients are stored with the oldest sample's first.
    void solve(const double* correlation) {
        double error = correlation[0] * (1 + floor_) + quietest_;
        std::reverse_copy(correlation, correlation + order_ + 1, reversed_.begin());
        for (int lag = 1; lag <= order_; ++lag) {
            const double known = dot(solution_.data(), reversed_.data() + order_ + 1 - lag, lag - 1);
            const double reflection = (correlation[lag] - known) / error;
            for (int k = 0; k < lag - 1; ++k) mirror_[k] = solution_[lag - 2 - k];
            for (int k = 0; k < lag - 1; ++k) solution_[k] -= reflection * mirror_[k];
            solution_[lag - 1] = reflection;
            error *= 1 - reflection * reflection;
        }
        for (int k = 0; k < order_; ++k) coefficients_[order_ - 1 - k] = static_cast<float>(solution_[k]);
        scale_ = static_cast<float>(std::sqrt(error));
    }

    int order_, block_;
    double floor_, quietest_, window_power_ = 0;
    std::vector<double> window_;
    int history_, end_ = 0;
    int64_t time_ = 0, fitted_block_ = 0;
    bool fitted_ = false;
    std::vector<float> samples_;
    Buffer<float> coefficients_;
    std::vector<double> solution_, mirror_, lags_, reversed_, weighted_;
    float scale_ = 1;
    Prediction known_;
};

}  // namespace
}  // namespace wavenet
