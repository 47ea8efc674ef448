# hadal_test(NAME TARGET [ARGS...]): a ctest test, its name prefixed by the preset (dev.base).
function(hadal_test name target)
  if(NOT HADAL_FUZZ)
    add_test(NAME ${HADAL_TEST_PREFIX}${name} COMMAND ${target} ${ARGN}
             WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  endif()
endfunction()

# hadal_module(NAME DEPS ... LIBS ... SRCS ... HDRS ... TESTS ... FUZZERS ...)
#   DEPS  modules this one may include (the arrows)      LIBS  outside libraries, private
#   HDRS  the headers other modules may include; each is compiled alone by the `dev` preset
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
  if(M_TESTS AND GTest_FOUND)
    add_executable(${name}_test ${M_TESTS})
    target_link_libraries(${name}_test PRIVATE hadal_${name} ${M_LIBS} GTest::gtest GTest::gtest_main)
    hadal_test(${name} ${name}_test)
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
