// Memory that is never given back: whoever is done with a talker drops the whole instance.
#include "vector.h"

extern unsigned char __heap_base;

#define PAGE 65536
#define LINE 64

unsigned EXPORT(allocate)(unsigned bytes) {
  static unsigned end = 0;
  if (!end) end = ((unsigned)&__heap_base + LINE - 1) & ~(LINE - 1u);
  unsigned start = end;
  // Vectors are read up to fifteen bytes beyond the last number.
  end = (end + bytes + 16 + LINE - 1) & ~(LINE - 1u);
  unsigned have = __builtin_wasm_memory_size(0) * PAGE;
  if (end > have && __builtin_wasm_memory_grow(0, (end - have + PAGE - 1) / PAGE) == (unsigned)-1)
    __builtin_trap();
  return start;
}
