// Atomic operations on global and shared memory. Threads run in turn, so plain code is atomic; the
// order in which threads come is the schedule's.
#pragma once

#include <type_traits>

#include "machine.h"

namespace emulated {

template <class T, class F>
EMULATED_UNSEEN T exchange_atomically(T* address, F&& changed, const void* where) {
  atomic(address, sizeof(T), where);
  const T old = *address;
  *address = changed(old);
  return old;
}

}  // namespace emulated

// The value's type follows from the address, as in CUDA's overloads.
#define EMULATED_ATOMIC(name, expression)                                               \
  template <class T>                                                                    \
  EMULATED_CALL T name(T* address, std::type_identity_t<T> value) {                     \
    return emulated::exchange_atomically(                                               \
        address, [=](T old) EMULATED_UNSEEN { return T(expression); }, EMULATED_WHERE); \
  }

EMULATED_ATOMIC(atomicAdd, old + value)
EMULATED_ATOMIC(atomicSub, old - value)
EMULATED_ATOMIC(atomicMin, value < old ? value : old)
EMULATED_ATOMIC(atomicMax, value > old ? value : old)
EMULATED_ATOMIC(atomicOr, old | value)
EMULATED_ATOMIC(atomicAnd, old& value)
EMULATED_ATOMIC(atomicExch, value)
#undef EMULATED_ATOMIC

template <class T>
EMULATED_CALL T atomicCAS(T* address, std::type_identity_t<T> expected,
                          std::type_identity_t<T> value) {
  return emulated::exchange_atomically(
      address, [=](T old) EMULATED_UNSEEN { return old == expected ? value : old; },
      EMULATED_WHERE);
}
