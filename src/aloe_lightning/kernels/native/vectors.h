// Vectors of float or double, and how features of each type are loaded, stored and multiplied as such.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
constexpr int BYTES = 64;  // of a vector
constexpr int TILE = 8;    // rows of a product that registers hold
#else
constexpr int BYTES = 32;
constexpr int TILE = 4;
#endif
constexpr int PANEL = 3;  // vectors of columns of a product that registers hold

struct BFloat16 {
  uint16_t bits;
};

template <typename T>
struct Kind {  // float and double
  using Sum = T;      // what products and sums are kept in
  using Element = T;  // what a lane of a product multiplies at once: PACK features
  static constexpr int PACK = 1;
};
template <>
struct Kind<BFloat16> {
  using Sum = float;
  using Element = uint32_t;  // two features, the first one in the low half
  static constexpr int PACK = 2;
};
template <typename T>
using Sum = typename Kind<T>::Sum;
template <typename T>
using Element = typename Kind<T>::Element;
template <typename T>
constexpr int PACK = Kind<T>::PACK;
template <typename T>
constexpr int LANES = BYTES / sizeof(Sum<T>);

template <typename S>
struct VectorOf {
  typedef S type __attribute__((vector_size(BYTES)));
};
template <typename T>
using Vector = typename VectorOf<Sum<T>>::type;
typedef uint32_t Bits __attribute__((vector_size(BYTES)));
typedef uint16_t Halves __attribute__((vector_size(BYTES / 2)));

template <typename To, typename From>
inline To as(const From& value) {
  static_assert(sizeof(To) == sizeof(From));
  To found;
  std::memcpy(&found, &value, sizeof found);
  return found;
}
template <typename To, typename From>
inline To read(const From* from) {
  To found;
  std::memcpy(&found, from, sizeof found);
  return found;
}

inline Bits spread(Halves halves) {
#ifdef __AVX512F__  // the compiler makes two of it
  return as<Bits>(_mm512_cvtepu16_epi32(as<__m256i>(halves)));
#else
  return __builtin_convertvector(halves, Bits);
#endif
}
inline Vector<BFloat16> widened(Halves halves) { return as<Vector<BFloat16>>(spread(halves) << 16); }
template <typename B>
inline B rounded(B bits) {  // of float, to those of its upper half: to nearest, ties to even
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
inline Halves narrowed(Vector<BFloat16> value) {
#ifdef __AVX512BF16__
  return as<Halves>(_mm512_cvtneps_pbh(as<__m512>(value)));
#else
  return __builtin_convertvector(rounded(as<Bits>(value)), Halves);
#endif
}

template <typename T>
inline T narrowed(Sum<T> value) {
  if constexpr (sizeof(T) == sizeof value) return value;
  else return {uint16_t(rounded(as<uint32_t>(value)))};
}

inline Vector<float> load(const float* from) { return read<Vector<float>>(from); }
inline Vector<double> load(const double* from) { return read<Vector<double>>(from); }
inline Vector<BFloat16> load(const BFloat16* from) { return widened(read<Halves>(from)); }
inline void store(Vector<float> value, float* to) { std::memcpy(to, &value, sizeof value); }
inline void store(Vector<double> value, double* to) { std::memcpy(to, &value, sizeof value); }
inline void store(Vector<BFloat16> value, BFloat16* to) {
  Halves halves = narrowed(value);
  std::memcpy(to, &halves, sizeof halves);
}

// The first n lanes; others are 0.
template <typename T>
inline Vector<T> load(const T* from, int64_t n) {
  if (n >= LANES<T>) return load(from);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  uint32_t lanes = (1u << n) - 1;
  if constexpr (sizeof(T) == 2) return widened(as<Halves>(_mm256_maskz_loadu_epi16(lanes, from)));
  else if constexpr (sizeof(T) == 4) return as<Vector<T>>(_mm512_maskz_loadu_ps(lanes, from));
  else return as<Vector<T>>(_mm512_maskz_loadu_pd(lanes, from));
#else
  T whole[LANES<T>] = {};
  for (int64_t i = 0; i < n; ++i) whole[i] = from[i];
  return load(whole);
#endif
}
template <typename T>
inline void store(Vector<T> value, T* to, int64_t n) {
  if (n >= LANES<T>) return store(value, to);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  uint32_t lanes = (1u << n) - 1;
  if constexpr (sizeof(T) == 2) _mm256_mask_storeu_epi16(to, lanes, as<__m256i>(narrowed(value)));
  else if constexpr (sizeof(T) == 4) _mm512_mask_storeu_ps(to, lanes, as<__m512>(value));
  else _mm512_mask_storeu_pd(to, lanes, as<__m512d>(value));
#else
  T whole[LANES<T>];
  store(value, whole);
  for (int64_t i = 0; i < n; ++i) to[i] = whole[i];
#endif
}

// sum + a * b in each lane, `a` one element for all.
inline Vector<float> multiplied(Vector<float> sum, const float* a, const float* b) { return sum + *a * load(b); }
inline Vector<double> multiplied(Vector<double> sum, const double* a, const double* b) { return sum + *a * load(b); }
inline Vector<BFloat16> multiplied(Vector<BFloat16> sum, const uint32_t* a, const uint32_t* b) {
#ifdef __AVX512BF16__
  return as<Vector<BFloat16>>(
      _mm512_dpbf16_ps(as<__m512>(sum), as<__m512bh>(_mm512_set1_epi32(*a)), read<__m512bh>(b)));
#else
  Bits pairs = read<Bits>(b);
  sum += as<float>(*a << 16) * as<Vector<BFloat16>>(pairs << 16);
  return sum + as<float>(*a & 0xffff0000) * as<Vector<BFloat16>>(pairs & 0xffff0000);
#endif
}

// One element per lane from PACK features.
inline Vector<float> packed(const float* first, const float*) { return load(first); }
inline Vector<double> packed(const double* first, const double*) { return load(first); }
inline Bits packed(const BFloat16* first, const BFloat16* second) {
  return spread(read<Halves>(first)) | spread(read<Halves>(second)) << 16;
}
