# Flags: weft_compile_options for the library itself, weft_warnings for everything that is ours to
# keep clean, and the sanitizers for the whole build.

set(weft_compile_options -fasynchronous-unwind-tables)
check_c_compiler_flag(-fstack-clash-protection weft_has_stack_clash)
if(weft_has_stack_clash)
  list(APPEND weft_compile_options -fstack-clash-protection)
endif()
if(CMAKE_C_COMPILER_ID MATCHES "Clang")
  # gcc's noclone, which clang neither knows nor needs.
  list(APPEND weft_compile_options -Wno-unknown-attributes)
endif()

# Release builds inline across files (bench/bench_spawn.c: 6 % of a spawn, 10 % of a kill and wake-up). The objects are fat: they
# hold machine code as well, so that the static library asks nothing of those who link it. clang 14 has no such objects.
set(weft_lto_options)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  set(weft_lto_options $<$<CONFIG:Release>:-flto=auto>)
  list(APPEND weft_compile_options ${weft_lto_options} $<$<CONFIG:Release>:-ffat-lto-objects>)
endif()

add_library(weft_warnings INTERFACE)
if(WEFT_WARNINGS)
  target_compile_options(weft_warnings INTERFACE
    -Wall -Wextra -Wshadow -Wconversion -Wundef -Wvla
    $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>)
endif()

if(WEFT_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(WEFT_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(WEFT_SANITIZE)
  message(FATAL_ERROR "WEFT_SANITIZE is '${WEFT_SANITIZE}'; it can be address or thread")
endif()

if(WEFT_COVERAGE)
  # Counters are shared by all workers, hence atomic.
  add_compile_options(--coverage -fprofile-update=atomic)
  add_link_options(--coverage)
endif()
