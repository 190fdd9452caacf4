// SIMD vectors of float or double, and how features of each type are loaded, stored and multiplied in them.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace aloe_lightning {

#ifdef __AVX512F__
constexpr int VECTOR_BYTES = 64;
constexpr int TILE_ROWS = 8;  // rows of a matrix product whose sums fit into the registers
#else
constexpr int VECTOR_BYTES = 32;
constexpr int TILE_ROWS = 4;
#endif
constexpr int PANEL_VECTORS = 3;  // columns of a matrix product whose sums fit into the registers, in vectors

struct BFloat16 {
  uint16_t bits;
};

template <typename T>
struct ElementTraits {  // float and double
  using Sum = T;        // the type that accumulates products and sums
  using Element = T;    // what one lane multiplies at once: PACK features
  static constexpr int PACK = 1;
};
template <>
struct ElementTraits<BFloat16> {
  using Sum = float;
  using Element = uint32_t;  // two features, the first one in the low half
  static constexpr int PACK = 2;
};
template <typename T>
using Sum = typename ElementTraits<T>::Sum;
template <typename T>
using Element = typename ElementTraits<T>::Element;
template <typename T>
constexpr int PACK = ElementTraits<T>::PACK;
template <typename T>
constexpr int LANES = VECTOR_BYTES / sizeof(Sum<T>);

template <typename S>
struct VectorOf {
  typedef S type __attribute__((vector_size(VECTOR_BYTES)));
};
template <typename T>
using Vector = typename VectorOf<Sum<T>>::type;
typedef uint32_t Bits32 __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t Bits16 __attribute__((vector_size(VECTOR_BYTES / 2)));

template <typename To, typename From>
inline To bit_cast(const From& value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}
template <typename To, typename From>
inline To load_as(const From* from) {
  To result;
  std::memcpy(&result, from, sizeof result);
  return result;
}

inline Bits32 zero_extend(Bits16 values) {
#ifdef __AVX512F__  // the compiler would use two instructions
  return bit_cast<Bits32>(_mm512_cvtepu16_epi32(bit_cast<__m256i>(values)));
#else
  return __builtin_convertvector(values, Bits32);
#endif
}
inline Vector<BFloat16> to_float(Bits16 values) { return bit_cast<Vector<BFloat16>>(zero_extend(values) << 16); }
template <typename B>
inline B round_to_upper_half(B float_bits) {  // to nearest, ties to even
  return (float_bits + 0x7fff + ((float_bits >> 16) & 1)) >> 16;
}
inline Bits16 to_bfloat16(Vector<BFloat16> value) {
#ifdef __AVX512BF16__
  return bit_cast<Bits16>(_mm512_cvtneps_pbh(bit_cast<__m512>(value)));
#else
  return __builtin_convertvector(round_to_upper_half(bit_cast<Bits32>(value)), Bits16);
#endif
}

template <typename T>
inline T to_feature(Sum<T> value) {
  if constexpr (sizeof(T) == sizeof value) return value;
  else return {uint16_t(round_to_upper_half(bit_cast<uint32_t>(value)))};
}

inline Vector<float> load(const float* from) { return load_as<Vector<float>>(from); }
inline Vector<double> load(const double* from) { return load_as<Vector<double>>(from); }
inline Vector<BFloat16> load(const BFloat16* from) { return to_float(load_as<Bits16>(from)); }
inline void store(Vector<float> value, float* to) { std::memcpy(to, &value, sizeof value); }
inline void store(Vector<double> value, double* to) { std::memcpy(to, &value, sizeof value); }
inline void store(Vector<BFloat16> value, BFloat16* to) {
  Bits16 rounded = to_bfloat16(value);
  std::memcpy(to, &rounded, sizeof rounded);
}

// Load the first n lanes; the others are 0.
template <typename T>
inline Vector<T> load(const T* from, int64_t n) {
  if (n >= LANES<T>) return load(from);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  uint32_t mask = (1u << n) - 1;
  if constexpr (sizeof(T) == 2) return to_float(bit_cast<Bits16>(_mm256_maskz_loadu_epi16(mask, from)));
  else if constexpr (sizeof(T) == 4) return bit_cast<Vector<T>>(_mm512_maskz_loadu_ps(mask, from));
  else return bit_cast<Vector<T>>(_mm512_maskz_loadu_pd(mask, from));
#else
  T padded[LANES<T>] = {};
  for (int64_t i = 0; i < n; ++i) padded[i] = from[i];
  return load(padded);
#endif
}
// Store the first n lanes.
template <typename T>
inline void store(Vector<T> value, T* to, int64_t n) {
  if (n >= LANES<T>) return store(value, to);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  uint32_t mask = (1u << n) - 1;
  if constexpr (sizeof(T) == 2) _mm256_mask_storeu_epi16(to, mask, bit_cast<__m256i>(to_bfloat16(value)));
  else if constexpr (sizeof(T) == 4) _mm512_mask_storeu_ps(to, mask, bit_cast<__m512>(value));
  else _mm512_mask_storeu_pd(to, mask, bit_cast<__m512d>(value));
#else
  T padded[LANES<T>];
  store(value, padded);
  for (int64_t i = 0; i < n; ++i) to[i] = padded[i];
#endif
}

// Return sum + a * b in each lane; all lanes share the element a.
inline Vector<float> multiply_add(Vector<float> sum, const float* a, const float* b) { return sum + *a * load(b); }
inline Vector<double> multiply_add(Vector<double> sum, const double* a, const double* b) { return sum + *a * load(b); }
inline Vector<BFloat16> multiply_add(Vector<BFloat16> sum, const uint32_t* a, const uint32_t* b) {
#ifdef __AVX512BF16__
  return bit_cast<Vector<BFloat16>>(
      _mm512_dpbf16_ps(bit_cast<__m512>(sum), bit_cast<__m512bh>(_mm512_set1_epi32(*a)), load_as<__m512bh>(b)));
#else
  Bits32 pairs = load_as<Bits32>(b);
  sum += bit_cast<float>(*a << 16) * bit_cast<Vector<BFloat16>>(pairs << 16);
  return sum + bit_cast<float>(*a & 0xffff0000) * bit_cast<Vector<BFloat16>>(pairs & 0xffff0000);
#endif
}

// Combine PACK features into one element for each lane.
inline Vector<float> interleave(const float* first, const float*) { return load(first); }
inline Vector<double> interleave(const double* first, const double*) { return load(first); }
inline Bits32 interleave(const BFloat16* first, const BFloat16* second) {
  return zero_extend(load_as<Bits16>(first)) | zero_extend(load_as<Bits16>(second)) << 16;
}

}  // namespace aloe_lightning
