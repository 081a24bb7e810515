# hs_module(<folder>): an internal library from the folder's sources, linked with what docs/layers.txt allows it.
file(STRINGS ${PROJECT_SOURCE_DIR}/docs/layers.txt HSTU_LAYERS REGEX "^[a-z]+:")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/layers.txt)

function(hs_layers_of folder out)
  foreach(line IN LISTS HSTU_LAYERS)
    if(line MATCHES "^${folder}:(.*)$")
      string(STRIP "${CMAKE_MATCH_1}" names)
      string(REGEX REPLACE " +" ";" names "${names}")
      set(${out} ${names} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "docs/layers.txt has no line for ${folder}")
endfunction()

# Instruction sets by file suffix, so that no intrinsic can leak into code that runs everywhere.
function(hs_isa_flags)
  foreach(source IN LISTS ARGN)
    if(source MATCHES "_avx2\\.c$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma")
    elseif(source MATCHES "_avx512\\.c$")
      # Without optimisation gcc's AVX-512 intrinsics are macros, and it warns of their own conversions.
      set_source_files_properties(
        ${source} PROPERTIES
        COMPILE_OPTIONS "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mfma;-mprefer-vector-width=512;-Wno-sign-conversion")
    endif()
  endforeach()
endfunction()

function(hs_module folder)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.c)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    list(FILTER sources EXCLUDE REGEX "/x86/")
  endif()
  hs_isa_flags(${sources})
  add_library(hs_${folder} STATIC ${sources})
  target_include_directories(hs_${folder} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  hs_layers_of(${folder} layers)
  foreach(layer IN LISTS layers)
    target_link_libraries(hs_${folder} PUBLIC hs_${layer})
  endforeach()
endfunction()
