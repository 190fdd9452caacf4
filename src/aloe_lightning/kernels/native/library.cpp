// The operations of `kernels.py`, for each type of features.

#include <torch/library.h>

#include "batch.h"
#include "frozen.h"

namespace {

// One of three functions, by the type of the first argument.
template <auto OF_FLOAT, auto OF_DOUBLE, auto OF_BFLOAT16>
struct ByType;
template <typename R, typename... A, R (*OF_FLOAT)(const Tensor&, A...), R (*OF_DOUBLE)(const Tensor&, A...),
          R (*OF_BFLOAT16)(const Tensor&, A...)>
struct ByType<OF_FLOAT, OF_DOUBLE, OF_BFLOAT16> {
  static R call(const Tensor& features, A... others) {
    if (features.scalar_type() == at::kFloat) return OF_FLOAT(features, others...);
    if (features.scalar_type() == at::kDouble) return OF_DOUBLE(features, others...);
    TORCH_CHECK(features.scalar_type() == at::kBFloat16, "no kernels for ", features.scalar_type());
    return OF_BFLOAT16(features, others...);
  }
};
#define OF(KIND, NAME) &ByType<&KIND<float>::NAME, &KIND<double>::NAME, &KIND<BFloat16>::NAME>::call

Tensor pack(const Tensor& weight, at::ScalarType type) {
  if (type == at::kFloat) return Weight<float>::pack(weight, type);
  if (type == at::kDouble) return Weight<double>::pack(weight, type);
  return Weight<BFloat16>::pack(weight, type);
}

}  // namespace

TORCH_LIBRARY(aloe_lightning, library) {
  library.def("pack(Tensor weight, ScalarType type) -> Tensor", &pack);
  library.def(
      "norm_conv(Tensor x, Tensor scale, Tensor shift, Tensor weight, int kernel, int side, Tensor(a!) out) -> Tensor",
      OF(Batch, norm_conv));
  library.def(
      "norm_conv_backward(Tensor gradient, Tensor features, Tensor correction, Tensor x, Tensor scale, Tensor shift,"
      " Tensor weight, int kernel, int side, Tensor(a!) into, bool add, bool learns) -> (Tensor, Tensor)",
      OF(Batch, norm_conv_backward));
  library.def("norm_pool(Tensor x, Tensor scale, Tensor shift, int side, int pool, Tensor(a!) out) -> ()",
              OF(Batch, norm_pool));
  library.def(
      "norm_pool_backward(Tensor gradient, Tensor x, Tensor scale, Tensor shift, int side, int pool, Tensor(a!) into)"
      " -> Tensor",
      OF(Batch, norm_pool_backward));
  library.def("moments(Tensor x) -> Tensor", OF(Batch, moments));
  library.def("corrected(Tensor gradient, Tensor features, Tensor correction, Tensor(a!) out) -> ()",
              OF(Batch, corrected));
  library.def(
      "frozen(Tensor(a!) features, int inputs, Tensor[] affines, Tensor[] weights, int side, int pool, Tensor(b!) kept,"
      " Tensor(c!) out) -> ()",
      OF(Frozen, run));
  library.def(
      "frozen_backward(Tensor features, Tensor gradient, Tensor[] affines, Tensor[] weights, int side, int pool,"
      " Tensor kept, Tensor(a!) out) -> ()",
      OF(Frozen, run_backward));
}
