#pragma once

#include <cstdint>

namespace llama2zh {

// CPython, Lib/pickle.py.
inline constexpr uint8_t kOpProto = 0x80, kOpFrame = 0x95, kOpStop = '.', kOpMark = '(';
inline constexpr uint8_t kOpNone = 'N', kOpNewTrue = 0x88, kOpNewFalse = 0x89;
inline constexpr uint8_t kOpBinInt = 'J', kOpBinInt1 = 'K', kOpBinInt2 = 'M', kOpLong1 = 0x8a;
inline constexpr uint8_t kOpBinFloat = 'G';
inline constexpr uint8_t kOpBinUnicode = 'X', kOpShortBinUnicode = 0x8c, kOpBinUnicode8 = 0x8d;
inline constexpr uint8_t kOpEmptyTuple = ')', kOpTuple = 't', kOpTuple1 = 0x85, kOpTuple2 = 0x86,
                         kOpTuple3 = 0x87;
inline constexpr uint8_t kOpEmptyList = ']', kOpAppend = 'a', kOpAppends = 'e';
inline constexpr uint8_t kOpEmptyDict = '}', kOpSetItem = 's', kOpSetItems = 'u';
inline constexpr uint8_t kOpBinPut = 'q', kOpLongBinPut = 'r', kOpMemoize = 0x94;
inline constexpr uint8_t kOpBinGet = 'h', kOpLongBinGet = 'j';
inline constexpr uint8_t kOpGlobal = 'c', kOpStackGlobal = 0x93, kOpReduce = 'R', kOpBuild = 'b';
inline constexpr uint8_t kOpBinPersId = 'Q';

}  // namespace llama2zh
