# Compiler flags of every target. Instruction-set flags come from a source file's suffix (module.cmake), never from here.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")

add_compile_definitions(_POSIX_C_SOURCE=200809L $<$<BOOL:${HSTU_FUZZ}>:HSTU_FUZZ>
                        $<$<BOOL:${HSTU_AMX_MODEL}>:HSTU_AMX_MODEL>)
# -ffp-contract=off: a fused multiply-add appears only where a kernel asks for it, so results do not depend on the compiler.
add_compile_options(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef
                    -Wvla -Wcast-qual -Wformat=2 -ffp-contract=off -fno-math-errno)
if(HSTU_WERROR)
  add_compile_options(-Werror)
endif()
if(HSTU_SANITIZE)
  add_compile_options(-fsanitize=${HSTU_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${HSTU_SANITIZE})
endif()
if(HSTU_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
