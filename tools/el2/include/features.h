// libstdc++'s os_defines.h for Linux includes glibc's features.h for this one macro.
#pragma once
#include <sys/features.h>
#ifndef __GLIBC_PREREQ
#define __GLIBC_PREREQ(major, minor) 0
#endif
