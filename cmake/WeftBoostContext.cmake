# The context switch is Boost.Context's. Its shared library drags the C++ runtime into every program,
# so the assembly objects are taken out of its static archive and become part of both our libraries;
# the archive's one C++ object stays behind. Sets weft_boost_objects.

find_library(WEFT_BOOST_CONTEXT_ARCHIVE NAMES libboost_context.a
             DOC "The static archive of Boost.Context")
if(NOT WEFT_BOOST_CONTEXT_ARCHIVE)
  message(FATAL_ERROR "libboost_context.a was not found (Debian: libboost-context-dev); "
                      "set WEFT_BOOST_CONTEXT_ARCHIVE to its path")
endif()

execute_process(COMMAND "${CMAKE_AR}" t "${WEFT_BOOST_CONTEXT_ARCHIVE}"
                OUTPUT_VARIABLE weft_boost_members OUTPUT_STRIP_TRAILING_WHITESPACE
                COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\n" ";" weft_boost_members "${weft_boost_members}")
list(FILTER weft_boost_members INCLUDE REGEX "^(make|jump|ontop)_.*\\.o(bj)?$")
list(LENGTH weft_boost_members weft_boost_member_count)
if(NOT weft_boost_member_count EQUAL 3)
  message(FATAL_ERROR "${WEFT_BOOST_CONTEXT_ARCHIVE} does not hold the three objects expected: "
                      "${weft_boost_members}")
endif()

set(weft_boost_dir "${PROJECT_BINARY_DIR}/boost_context")
file(MAKE_DIRECTORY "${weft_boost_dir}")
list(TRANSFORM weft_boost_members PREPEND "${weft_boost_dir}/" OUTPUT_VARIABLE weft_boost_objects)
add_custom_command(
  OUTPUT ${weft_boost_objects}
  COMMAND "${CMAKE_AR}" x "${WEFT_BOOST_CONTEXT_ARCHIVE}" ${weft_boost_members}
  COMMAND "${CMAKE_COMMAND}" -E touch ${weft_boost_objects}
  DEPENDS "${WEFT_BOOST_CONTEXT_ARCHIVE}"
  WORKING_DIRECTORY "${weft_boost_dir}"
  COMMENT "Taking the context switch out of libboost_context.a"
  VERBATIM)
# Both libraries use the objects: one target makes them, so that parallel makes do not collide.
add_custom_target(weft_boost_extract DEPENDS ${weft_boost_objects})
set_source_files_properties(${weft_boost_objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
