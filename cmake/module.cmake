# What most sources include, parsed once a tree instead of once a file: for tests everywhere, for
# modules in sanitized trees only, so that a release build shows what a file forgets to include.
set(headers <algorithm> <array> <atomic> <chrono> <cmath> <cstdint> <cstring> <filesystem> <fstream>
    <functional> <limits> <map> <memory> <mutex> <optional> <span> <string> <string_view> <thread>
    <unordered_map> <utility> <variant> <vector> <nlohmann/json.hpp>)
file(WRITE ${CMAKE_BINARY_DIR}/precompiled.cc "")
function(hadal_precompiled name)
  add_library(${name} OBJECT ${CMAKE_BINARY_DIR}/precompiled.cc)
  target_link_libraries(${name} PRIVATE nlohmann_json::nlohmann_json Threads::Threads)
  target_precompile_headers(${name} PRIVATE ${ARGN})
  hadal_precompiled_options(${name})
endfunction()
# What lets ccache reuse such objects; a header that does not fit some target's flags is read as text.
function(hadal_precompiled_options name)
  target_compile_options(${name} PRIVATE
    $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess> $<$<CXX_COMPILER_ID:GNU>:-Wno-error=invalid-pch>
    "$<$<CXX_COMPILER_ID:Clang>:SHELL:-Xclang -fno-pch-timestamp>")
endfunction()
function(hadal_use_precompiled name precompiled)
  target_precompile_headers(${name} REUSE_FROM ${precompiled})
  hadal_precompiled_options(${name})
endfunction()
# Where compiling takes longer than running: tests (in release -O1 builds them in half the time), and
# in sanitized trees all modules but those whose loops the tests spend their time in.
set(HADAL_HOT_MODULES base tensor kernels formats tokenizer model)
set(HADAL_TEST_FLAGS $<$<CONFIG:Release>:-O1> $<$<CONFIG:Debug>:-O0>)
if(HADAL_SANITIZE)
  hadal_precompiled(hadal_precompiled_hot ${headers})
  hadal_precompiled(hadal_precompiled_cold ${headers})
  target_compile_options(hadal_precompiled_cold PRIVATE ${HADAL_TEST_FLAGS})
endif()
if(GTest_FOUND)
  hadal_precompiled(hadal_precompiled_tests <gtest/gtest.h> ${headers})
  target_link_libraries(hadal_precompiled_tests PRIVATE GTest::gtest)
  target_compile_options(hadal_precompiled_tests PRIVATE ${HADAL_TEST_FLAGS})
endif()

# hadal_test(NAME TARGET [ARGS...]): a ctest test, its name prefixed by the preset (dev.base).
function(hadal_test name target)
  add_test(NAME ${HADAL_TEST_PREFIX}${name} COMMAND ${target} ${ARGN}
           WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
endfunction()

# hadal_module(NAME DEPS ... LIBS ... SRCS ... HDRS ... TESTS ... FUZZERS ...)
#   DEPS  modules this one may include (the arrows)      LIBS  outside libraries, private
#   HDRS  the headers other modules may include          TESTS one executable NAME_test
#   FUZZERS  one executable a file, with HADAL_FUZZ; the module itself then reports its coverage
function(hadal_module name)
  cmake_parse_arguments(M "" "" "DEPS;LIBS;SRCS;HDRS;TESTS;FUZZERS" ${ARGN})
  add_library(hadal_${name} STATIC ${M_SRCS})
  set_target_properties(hadal_${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_sources(hadal_${name} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/src
                 FILES ${M_HDRS})
  target_include_directories(hadal_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  foreach(dep ${M_DEPS})
    target_link_libraries(hadal_${name} PUBLIC hadal_${dep})
  endforeach()
  target_link_libraries(hadal_${name} PRIVATE ${M_LIBS})
  if(HADAL_SANITIZE AND name IN_LIST HADAL_HOT_MODULES)
    hadal_use_precompiled(hadal_${name} hadal_precompiled_hot)
  elseif(HADAL_SANITIZE)
    target_compile_options(hadal_${name} PRIVATE ${HADAL_TEST_FLAGS})
    hadal_use_precompiled(hadal_${name} hadal_precompiled_cold)
  endif()
  if(HADAL_FUZZ AND M_FUZZERS)
    target_compile_options(hadal_${name} PRIVATE
      -fsanitize-coverage=inline-8bit-counters,pc-table,trace-cmp,indirect-calls)
  endif()
  # In unrolled vector code UBSan multiplies clang's time by fifty. The same templates are checked
  # with the scalar lanes.
  if(HADAL_SANITIZE MATCHES undefined AND CMAKE_CXX_COMPILER_ID STREQUAL Clang)
    set(vector_sources ${M_SRCS} ${M_TESTS})
    list(FILTER vector_sources INCLUDE REGEX "_avx[^/]*\\.cc$|/lanes_test\\.cc$")
    set_property(SOURCE ${vector_sources} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize=undefined)
  endif()
  if(M_TESTS AND GTest_FOUND)
    add_executable(${name}_test ${M_TESTS})
    target_link_libraries(${name}_test PRIVATE hadal_${name} ${M_LIBS} GTest::gtest GTest::gtest_main)
    target_compile_options(${name}_test PRIVATE ${HADAL_TEST_FLAGS})
    hadal_use_precompiled(${name}_test hadal_precompiled_tests)
    hadal_test(${name} ${name}_test)
    list(LENGTH M_TESTS cost)  # the longest run first: about where there is most to test
    if(HADAL_SANITIZE)
      math(EXPR cost "10 * ${cost}")
    endif()
    set_tests_properties(${HADAL_TEST_PREFIX}${name} PROPERTIES COST ${cost})
  endif()
  if(HADAL_FUZZ)
    foreach(fuzzer ${M_FUZZERS})
      get_filename_component(stem ${fuzzer} NAME_WE)
      add_executable(${stem} ${fuzzer})
      target_compile_options(${stem} PRIVATE -fsanitize=fuzzer)
      target_link_options(${stem} PRIVATE -fsanitize=fuzzer)
      target_link_libraries(${stem} PRIVATE hadal_${name} ${M_LIBS})
      add_dependencies(fuzzers ${stem})
      add_test(NAME fuzz.${stem} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
               COMMAND ${PROJECT_SOURCE_DIR}/tools/fuzz.sh $<TARGET_FILE:${stem}> src/${name}/fuzz_corpus)
    endforeach()
  endif()
endfunction()

# A program that a module's tests start as ranks: they find its path in the macro.
function(hadal_test_ranks name macro source)
  if(NOT TARGET ${name}_test)
    return()
  endif()
  add_executable(${name}_ranks ${source})
  target_link_libraries(${name}_ranks PRIVATE hadal_${name})
  add_dependencies(${name}_test ${name}_ranks)
  target_compile_definitions(${name}_test PRIVATE ${macro}="$<TARGET_FILE:${name}_ranks>"
                             HADAL_COMM_MPI=$<BOOL:${HADAL_MPI}>)
endfunction()
