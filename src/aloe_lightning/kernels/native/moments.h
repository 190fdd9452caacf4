// Mean and sum of squared deviations over rows, merged block by block (Chan, Golub and LeVeque, 1983).
#pragma once

#include "blocks.h"

namespace aloe_lightning {

struct Moments {
  double count = 0;
  std::vector<double> mean, squares;
  explicit Moments(int64_t channels) : mean(channels), squares(channels) {}

  template <typename T>
  void add(const Rows<T>& x, int64_t first, int64_t rows) {
    int64_t channels = mean.size();
    for (int64_t c = 0; c < channels; c += LANES<T>) {
      int64_t lanes = std::min<int64_t>(LANES<T>, channels - c);
      // Deviations from a value of the block are small, so that little cancels.
      Vector<T> reference = load(x[first] + c, lanes), sum{}, square{};
      for (int64_t row = first; row < first + rows; ++row) {
        Vector<T> value = load(x[row] + c, lanes) - reference;
        sum += value;
        square += value * value;
      }
      for (int64_t i = 0; i < lanes; ++i) {
        double shift = double(sum[i]) / rows;
        merge(rows, c + i, reference[i] + shift, square[i] - shift * sum[i]);
      }
    }
    count += rows;
  }

  // Merge into parts[0] and return mean and variance (2, C).
  static Tensor combine(std::vector<Moments>& parts) {
    int64_t channels = parts[0].mean.size();
    for (size_t i = 1; i < parts.size(); ++i) {
      for (int64_t c = 0; c < channels; ++c) parts[0].merge(parts[i].count, c, parts[i].mean[c], parts[i].squares[c]);
      parts[0].count += parts[i].count;
    }
    Tensor result = at::empty({2, channels}, at::kDouble);
    for (int64_t c = 0; c < channels; ++c) {
      result.data_ptr<double>()[c] = parts[0].mean[c];
      result.data_ptr<double>()[channels + c] = parts[0].squares[c] / parts[0].count;
    }
    return result;
  }

 private:
  void merge(double other_count, int64_t c, double other_mean, double other_squares) {
    double delta = other_mean - mean[c], total = count + other_count;
    mean[c] += delta * other_count / total;
    squares[c] += other_squares + delta * delta * count * other_count / total;
  }
};

}  // namespace aloe_lightning
