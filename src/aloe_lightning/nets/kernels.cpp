// BatchNorm and ReLU over rows of channels, forward and backward, each part in one pass over the memory.
// `kernels.py` states the same in PyTorch's operations. Sums over rows are kept by blocks and added in their order:
// they depend neither on timing nor on the number of threads.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <cstdint>
#include <cstring>

namespace {

using at::Tensor;

constexpr int64_t BLOCK = 256;  // rows

struct BFloat16 {  // in a form that compilers vectorise
  uint16_t bits;
};
inline float widened(float value) { return value; }
inline float widened(BFloat16 value) {
  uint32_t bits = uint32_t(value.bits) << 16;
  float found;
  std::memcpy(&found, &bits, sizeof found);
  return found;
}
inline void store(float value, float& to) { to = value; }
inline void store(float value, BFloat16& to) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  to.bits = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // to nearest, ties to even
}

template <typename T>
struct Rows {  // of a matrix whose columns are neighbours
  T* data;
  int64_t stride;
  explicit Rows(const Tensor& x) : data(static_cast<T*>(x.data_ptr())), stride(x.stride(0)) {}
  T* operator[](int64_t row) const { return data + row * stride; }
};

template <typename F>
void in_blocks(int64_t rows, F work) {
  at::parallel_for(0, (rows + BLOCK - 1) / BLOCK, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) work(block, block * BLOCK, std::min(rows, (block + 1) * BLOCK));
  });
}

Tensor blocks_of(const Tensor& x) { return at::zeros({(x.size(0) + BLOCK - 1) / BLOCK, 2, x.size(1)}, at::kFloat); }

template <typename T>
void forward(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) {
  Rows<T> from(x), to(out);
  const float *a = scale.const_data_ptr<float>(), *b = shift.const_data_ptr<float>();
  int64_t channels = x.size(1);
  in_blocks(x.size(0), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* in = from[row];
      T* found = to[row];
#pragma GCC ivdep
      for (int64_t c = 0; c < channels; ++c) {
        float value = widened(in[c]) * a[c] + b[c];
        store(value > 0 ? value : 0.f, found[c]);
      }
    }
  });
}

template <typename T, bool SUM>
void backward(const Tensor& d, const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& into,
              const Tensor& parts) {
  Rows<T> gradient(d), from(x), to(into);
  const float *a = scale.const_data_ptr<float>(), *b = shift.const_data_ptr<float>();
  float* sums = SUM ? parts.mutable_data_ptr<float>() : nullptr;
  int64_t channels = x.size(1);
  in_blocks(x.size(0), [&](int64_t block, int64_t begin, int64_t end) {
    float *sum = SUM ? sums + block * 2 * channels : nullptr, *products = SUM ? sum + channels : nullptr;
    for (int64_t row = begin; row < end; ++row) {
      const T* g = gradient[row];
      const T* in = from[row];
      T* found = to[row];
#pragma GCC ivdep
      for (int64_t c = 0; c < channels; ++c) {
        float value = widened(in[c]);
        float masked = value * a[c] + b[c] > 0 ? widened(g[c]) : 0.f;
        if (SUM) {
          sum[c] += masked;
          products[c] += masked * value;
        }
        store(widened(found[c]) + a[c] * masked, found[c]);
      }
    }
  });
}

template <typename F>
void by_type(const Tensor& x, F run) {
  if (x.scalar_type() == at::kFloat) run(float());
  else run(BFloat16());
}

void relu_affine(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) {
  by_type(x, [&](auto type) { forward<decltype(type)>(x, scale, shift, out); });
}

void relu_affine_backward(const Tensor& d, const Tensor& x, const Tensor& scale, const Tensor& shift,
                          const Tensor& into, const std::optional<Tensor>& sums) {
  Tensor parts = sums ? blocks_of(x) : Tensor();
  by_type(x, [&](auto type) {
    if (sums) backward<decltype(type), true>(d, x, scale, shift, into, parts);
    else backward<decltype(type), false>(d, x, scale, shift, into, parts);
  });
  if (sums) sums->add_(parts.sum(0, false, at::kDouble));
}

// Sums over rows of x - x[0] and of its square: about a value that is there, so that little cancels.
template <typename T>
void deviations(const Tensor& x, const Tensor& parts) {
  Rows<T> from(x);
  float* sums = parts.mutable_data_ptr<float>();
  int64_t channels = x.size(1);
  in_blocks(x.size(0), [&](int64_t block, int64_t begin, int64_t end) {
    float *sum = sums + block * 2 * channels, *squares = sum + channels;
    const T* about = from[0];
    for (int64_t row = begin; row < end; ++row) {
      const T* in = from[row];
#pragma GCC ivdep
      for (int64_t c = 0; c < channels; ++c) {
        float value = widened(in[c]) - widened(about[c]);
        sum[c] += value;
        squares[c] += value * value;
      }
    }
  });
}

Tensor moments(const Tensor& x) {
  Tensor parts = blocks_of(x);
  by_type(x, [&](auto type) { deviations<decltype(type)>(x, parts); });
  Tensor sums = parts.sum(0, false, at::kDouble) / x.size(0), shift = sums[0];
  return at::stack({shift + x[0].to(at::kDouble), sums[1] - shift * shift}).to(at::kFloat);
}

// a * x + b * y + c
template <typename T>
void combination(const Tensor& x, const Tensor& y, const Tensor& factors, const Tensor& out) {
  Rows<T> first(x), second(y), to(out);
  int64_t channels = x.size(1);
  const float *a = factors.const_data_ptr<float>(), *b = a + channels, *c = b + channels;
  in_blocks(x.size(0), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T *xs = first[row], *ys = second[row];
      T* found = to[row];
#pragma GCC ivdep
      for (int64_t i = 0; i < channels; ++i) store(a[i] * widened(xs[i]) + b[i] * widened(ys[i]) + c[i], found[i]);
    }
  });
}

void combine(const Tensor& x, const Tensor& y, const Tensor& factors, const Tensor& out) {
  by_type(x, [&](auto type) { combination<decltype(type)>(x, y, factors, out); });
}

// PyTorch's copy spends most of its time between rows where these are short.
void copy_rows(const Tensor& x, const Tensor& out) {
  by_type(x, [&](auto type) {
    using T = decltype(type);
    Rows<T> from(x), to(out);
    size_t bytes = sizeof(T) * x.size(1);
    in_blocks(x.size(0), [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) std::memcpy(to[row], from[row], bytes);
    });
  });
}

}  // namespace

TORCH_LIBRARY(aloe_lightning, library) {
  library.def("moments(Tensor x) -> Tensor", &moments);
  library.def("combine(Tensor x, Tensor y, Tensor factors, Tensor(a!) out) -> ()", &combine);
  library.def("copy_rows(Tensor x, Tensor(a!) out) -> ()", &copy_rows);
  library.def("relu_affine(Tensor x, Tensor scale, Tensor shift, Tensor(a!) out) -> ()", &relu_affine);
  library.def(
      "relu_affine_backward(Tensor d, Tensor x, Tensor scale, Tensor shift, Tensor(a!) into, Tensor(b!)? sums) -> ()",
      &relu_affine_backward);
}
