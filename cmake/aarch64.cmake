# Cross compiling for 64-bit ARM with Debian's compiler, and running what is built under qemu. HSTU_AARCH64_ROOT is a folder with the
# libraries of that architecture; scripts/test_aarch64 fills one.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)

set(HSTU_AARCH64_ROOT "" CACHE PATH "libraries for aarch64")
# Where the linker and the emulated programs find the libraries that a library of ours needs in turn.
set(HSTU_AARCH64_LIBRARIES ${HSTU_AARCH64_ROOT}/usr/lib/aarch64-linux-gnu)
set(CMAKE_EXE_LINKER_FLAGS_INIT -Wl,-rpath-link,${HSTU_AARCH64_LIBRARIES})
set(CMAKE_SHARED_LINKER_FLAGS_INIT -Wl,-rpath-link,${HSTU_AARCH64_LIBRARIES})
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=${HSTU_AARCH64_LIBRARIES})
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES HSTU_AARCH64_ROOT)
set(CMAKE_FIND_ROOT_PATH ${HSTU_AARCH64_ROOT} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} ${HSTU_AARCH64_LIBRARIES}/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${HSTU_AARCH64_ROOT})
