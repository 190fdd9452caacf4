// Registers the operations that `dense_block.py` calls, for each type of features.

#include <torch/library.h>

#include "training.h"

#include "frozen_block.h"

namespace aloe_lightning {
namespace {

// Calls one of three functions, according to the type of the first argument.
template <auto FOR_FLOAT, auto FOR_DOUBLE, auto FOR_BFLOAT16>
struct ByType;
template <typename R, typename... A, R (*FOR_FLOAT)(const Tensor&, A...), R (*FOR_DOUBLE)(const Tensor&, A...),
          R (*FOR_BFLOAT16)(const Tensor&, A...)>
struct ByType<FOR_FLOAT, FOR_DOUBLE, FOR_BFLOAT16> {
  static R call(const Tensor& features, A... others) {
    if (features.scalar_type() == at::kFloat) return FOR_FLOAT(features, others...);
    if (features.scalar_type() == at::kDouble) return FOR_DOUBLE(features, others...);
    TORCH_CHECK(features.scalar_type() == at::kBFloat16, "no kernels for ", features.scalar_type());
    return FOR_BFLOAT16(features, others...);
  }
};
#define BY_TYPE(OPS, NAME) &ByType<&OPS<float>::NAME, &OPS<double>::NAME, &OPS<BFloat16>::NAME>::call

Tensor pack_weight(const Tensor& weight, at::ScalarType type) {
  if (type == at::kFloat) return Weight<float>::pack(weight, type);
  if (type == at::kDouble) return Weight<double>::pack(weight, type);
  return Weight<BFloat16>::pack(weight, type);
}

TORCH_LIBRARY(aloe_lightning, library) {
  library.def("pack_weight(Tensor weight, ScalarType type) -> Tensor", &pack_weight);
  library.def(
      "norm_conv(Tensor x, Tensor scale, Tensor shift, Tensor weight, int kernel, int side, Tensor(a!) out) -> Tensor",
      BY_TYPE(TrainingOps, norm_conv));
  library.def(
      "norm_conv_backward(Tensor gradient, Tensor features, Tensor terms, Tensor x, Tensor scale, Tensor shift,"
      " Tensor weight, int kernel, int side, Tensor(a!) input_gradient, bool add, bool needs_weight_gradient)"
      " -> (Tensor, Tensor)",
      BY_TYPE(TrainingOps, norm_conv_backward));
  library.def("norm_pool(Tensor x, Tensor scale, Tensor shift, int side, int pool, Tensor(a!) out) -> ()",
              BY_TYPE(TrainingOps, norm_pool));
  library.def(
      "norm_pool_backward(Tensor gradient, Tensor x, Tensor scale, Tensor shift, int side, int pool,"
      " Tensor(a!) input_gradient) -> Tensor",
      BY_TYPE(TrainingOps, norm_pool_backward));
  library.def("moments(Tensor x) -> Tensor", BY_TYPE(TrainingOps, moments));
  library.def("add_batchnorm_terms(Tensor gradient, Tensor features, Tensor terms, Tensor(a!) out) -> ()",
              BY_TYPE(TrainingOps, add_batchnorm_terms));
  library.def(
      "frozen_block(Tensor(a!) features, int inputs, Tensor[] affines, Tensor[] weights, int side, int pool,"
      " Tensor(b!) hidden, Tensor(c!) out) -> ()",
      BY_TYPE(FrozenBlock, forward));
  library.def(
      "frozen_block_backward(Tensor features, Tensor gradient, Tensor[] affines, Tensor[] weights, int side, int pool,"
      " Tensor hidden, Tensor(a!) out) -> ()",
      BY_TYPE(FrozenBlock, backward));
}

}  // namespace
}  // namespace aloe_lightning
