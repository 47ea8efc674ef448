# hadal_test(NAME TARGET [ARGS...]): a ctest test, its name prefixed by the preset (dev.base).
function(hadal_test name target)
  if(NOT HADAL_FUZZ)
    add_test(NAME ${HADAL_TEST_PREFIX}${name} COMMAND ${target} ${ARGN}
             WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  endif()
endfunction()

# hadal_module(NAME DEPS ... LIBS ... SRCS ... HDRS ... TESTS ... FUZZERS ...)
#   DEPS  modules this one may include (the arrows)      LIBS  outside libraries, private
#   HDRS  the headers other modules may include
#   TESTS one executable NAME_test                       FUZZERS  one executable a file, with HADAL_FUZZ
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
  # In unrolled vector code UBSan multiplies clang's time by fifty. The same templates are checked
  # with the scalar lanes.
  if(HADAL_SANITIZE MATCHES undefined AND CMAKE_CXX_COMPILER_ID STREQUAL Clang)
    set(vector_sources ${M_SRCS})
    list(FILTER vector_sources INCLUDE REGEX "_avx[^/]*\\.cc$")
    if(vector_sources)
      set_property(SOURCE ${vector_sources} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize=undefined)
    endif()
  endif()
  if(M_TESTS AND GTest_FOUND)
    add_executable(${name}_test ${M_TESTS})
    target_link_libraries(${name}_test PRIVATE hadal_${name} ${M_LIBS} GTest::gtest GTest::gtest_main)
    # Tests check results, not speed: -O1 builds them in half the time.
    target_compile_options(${name}_test PRIVATE $<$<CONFIG:Release>:-O1>)
    hadal_test(${name} ${name}_test)
    if(NOT HADAL_FUZZ)
      list(LENGTH M_TESTS cost)  # the longest run first: about where there is most to test
      if(HADAL_SANITIZE)
        math(EXPR cost "10 * ${cost}")
      endif()
      set_tests_properties(${HADAL_TEST_PREFIX}${name} PROPERTIES COST ${cost})
    endif()
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
