// C's allocation functions over the heap, for third-party code. libstdc++'s freestanding <cstdlib> does not declare them.
#pragma once

#include <cstddef>

extern "C" {
void* malloc(std::size_t size);
void* calloc(std::size_t count, std::size_t size);
void* realloc(void* at, std::size_t size);
void free(void* at);
}
