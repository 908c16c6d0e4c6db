package parquetfile

import (
	"math"
	"math/big"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// appender appends a value that is not null to the builder of its column.
type appender func(to array.Builder, v parquet.Value)

// leafOf returns the type of a column in Arrow, and how its values are read. The hint is the type
// that it had, which counts if its values are stored in the same way.
func leafOf(node *parquet.Column, hint arrow.DataType) (arrow.DataType, appender) {
	kind := node.Type().Kind()
	if own, convert := hintedOf(kind, hint); own != nil {
		return own, convert
	}
	switch logical := logicalOf(node).(type) {
	case *format.NullType:
		return nullColumn()
	case *format.StringType, *format.EnumType, *format.JsonType:
		if kind == parquet.ByteArray {
			return textOf(hint)
		}
	case *format.IntType:
		return integerOf(node, int(logical.BitWidth), logical.IsSigned)
	case *format.DecimalType:
		return decimalOf(node, logical)
	case *format.DateType:
		if kind == parquet.Int32 {
			return arrow.FixedWidthTypes.Date32, func(to array.Builder, v parquet.Value) {
				to.(*array.Date32Builder).Append(arrow.Date32(v.Int32()))
			}
		}
	case *format.TimeType:
		return timeOf(node, unitOf(logical.Unit))
	case *format.TimestampType:
		if kind == parquet.Int64 {
			return timestampOf(unitOf(logical.Unit), logical.IsAdjustedToUTC, hint)
		}
	default:
		return physicalOf(node, kind, hint)
	}
	unsupported(node)
	return nil, nil
}

// hintedOf returns a type that only the hint says, nil if it does not fit the stored values.
func hintedOf(kind parquet.Kind, hint arrow.DataType) (arrow.DataType, appender) {
	switch hinted := hint.(type) {
	case *arrow.NullType:
		if kind == parquet.Int32 {
			return nullColumn()
		}
	case *arrow.DurationType:
		if kind == parquet.Int64 {
			return hinted, func(to array.Builder, v parquet.Value) {
				to.(*array.DurationBuilder).Append(arrow.Duration(v.Int64()))
			}
		}
	}
	return nil, nil
}

// physicalOf returns the type of a column without a logical type.
func physicalOf(node *parquet.Column, kind parquet.Kind, hint arrow.DataType) (arrow.DataType, appender) {
	switch kind {
	case parquet.Boolean:
		return arrow.FixedWidthTypes.Boolean, func(to array.Builder, v parquet.Value) { to.(*array.BooleanBuilder).Append(v.Boolean()) }
	case parquet.Int32:
		return integerOf(node, 32, true)
	case parquet.Int64:
		return integerOf(node, 64, true)
	case parquet.Int96:
		return &arrow.TimestampType{Unit: arrow.Nanosecond}, appendInt96
	case parquet.Float:
		return arrow.PrimitiveTypes.Float32, func(to array.Builder, v parquet.Value) { to.(*array.Float32Builder).Append(v.Float()) }
	case parquet.Double:
		return arrow.PrimitiveTypes.Float64, func(to array.Builder, v parquet.Value) { to.(*array.Float64Builder).Append(v.Double()) }
	case parquet.ByteArray:
		return binaryOf(hint)
	case parquet.FixedLenByteArray:
		width := node.Type().Length()
		if hint != nil && hint.ID() == arrow.FLOAT16 && width == 2 {
			return hint, appendFloat16
		}
		return &arrow.FixedSizeBinaryType{ByteWidth: width}, func(to array.Builder, v parquet.Value) {
			if len(v.ByteArray()) != width {
				refuse("a value of %d bytes has another size", width)
			}
			to.(*array.FixedSizeBinaryBuilder).Append(v.ByteArray())
		}
	}
	unsupported(node)
	return nil, nil
}

func appendFloat16(to array.Builder, v parquet.Value) {
	if len(v.ByteArray()) != 2 {
		refuse("a number of 16 bits has another size")
	}
	to.(*array.Float16Builder).Append(float16.FromLEBytes(v.ByteArray()))
}

func nullColumn() (arrow.DataType, appender) {
	return arrow.Null, func(array.Builder, parquet.Value) { refuse("a column of nulls has a value") }
}

// textOf returns the type of a column of text.
func textOf(hint arrow.DataType) (arrow.DataType, appender) {
	kind := arrow.DataType(arrow.BinaryTypes.String)
	if hint != nil && (hint.ID() == arrow.LARGE_STRING || hint.ID() == arrow.STRING_VIEW) {
		kind = hint
	}
	return kind, func(to array.Builder, v parquet.Value) {
		if !utf8.Valid(v.ByteArray()) {
			refuse("a text is not UTF-8")
		}
		to.(array.StringLikeBuilder).Append(string(v.ByteArray()))
	}
}

// binaryOf returns the type of a column of bytes.
func binaryOf(hint arrow.DataType) (arrow.DataType, appender) {
	kind := arrow.DataType(arrow.BinaryTypes.Binary)
	if hint != nil && (hint.ID() == arrow.LARGE_BINARY || hint.ID() == arrow.BINARY_VIEW) {
		kind = hint
	}
	return kind, func(to array.Builder, v parquet.Value) { to.(array.BinaryLikeBuilder).Append(v.ByteArray()) }
}

// integerOf returns the type of a column of integers.
func integerOf(node *parquet.Column, bits int, signed bool) (arrow.DataType, appender) {
	stored := parquet.Int32
	if bits == 64 {
		stored = parquet.Int64
	}
	if node.Type().Kind() != stored {
		unsupported(node)
	}
	within := func(v parquet.Value, low, high int32) int32 {
		if i := v.Int32(); i >= low && i <= high {
			return i
		}
		refuse("the number %d does not fit in %d bits", v.Int32(), bits)
		return 0
	}
	switch {
	case bits == 8 && signed:
		return arrow.PrimitiveTypes.Int8, func(to array.Builder, v parquet.Value) {
			to.(*array.Int8Builder).Append(int8(within(v, math.MinInt8, math.MaxInt8)))
		}
	case bits == 8:
		return arrow.PrimitiveTypes.Uint8, func(to array.Builder, v parquet.Value) {
			to.(*array.Uint8Builder).Append(uint8(within(v, 0, math.MaxUint8)))
		}
	case bits == 16 && signed:
		return arrow.PrimitiveTypes.Int16, func(to array.Builder, v parquet.Value) {
			to.(*array.Int16Builder).Append(int16(within(v, math.MinInt16, math.MaxInt16)))
		}
	case bits == 16:
		return arrow.PrimitiveTypes.Uint16, func(to array.Builder, v parquet.Value) {
			to.(*array.Uint16Builder).Append(uint16(within(v, 0, math.MaxUint16)))
		}
	case bits == 32 && signed:
		return arrow.PrimitiveTypes.Int32, func(to array.Builder, v parquet.Value) { to.(*array.Int32Builder).Append(v.Int32()) }
	case bits == 32:
		return arrow.PrimitiveTypes.Uint32, func(to array.Builder, v parquet.Value) { to.(*array.Uint32Builder).Append(v.Uint32()) }
	case bits == 64 && signed:
		return arrow.PrimitiveTypes.Int64, func(to array.Builder, v parquet.Value) { to.(*array.Int64Builder).Append(v.Int64()) }
	case bits == 64:
		return arrow.PrimitiveTypes.Uint64, func(to array.Builder, v parquet.Value) { to.(*array.Uint64Builder).Append(v.Uint64()) }
	}
	unsupported(node)
	return nil, nil
}

// decimalOf returns the type of a column of decimals.
func decimalOf(node *parquet.Column, logical *format.DecimalType) (arrow.DataType, appender) {
	precision, scale := logical.Precision, logical.Scale
	if precision < 1 || precision > 76 || scale < 0 || scale > precision {
		refuse("a decimal of %d digits, %d of them behind the point", precision, scale)
	}
	number := func(v parquet.Value) *big.Int {
		switch v.Kind() {
		case parquet.Int32:
			return big.NewInt(int64(v.Int32()))
		case parquet.Int64:
			return big.NewInt(v.Int64())
		}
		return signed(v.ByteArray())
	}
	fits := func(n *big.Int) *big.Int {
		if new(big.Int).Abs(n).Cmp(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)) >= 0 {
			refuse("a decimal has more than %d digits", precision)
		}
		return n
	}
	if precision <= 38 {
		return &arrow.Decimal128Type{Precision: precision, Scale: scale}, func(to array.Builder, v parquet.Value) {
			to.(*array.Decimal128Builder).Append(decimal128.FromBigInt(fits(number(v))))
		}
	}
	return &arrow.Decimal256Type{Precision: precision, Scale: scale}, func(to array.Builder, v parquet.Value) {
		to.(*array.Decimal256Builder).Append(decimal256.FromBigInt(fits(number(v))))
	}
}

// signed returns the number that big-endian bytes in two's complement stand for.
func signed(b []byte) *big.Int {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return n
}

func unitOf(unit format.TimeUnit) arrow.TimeUnit {
	switch unit.Value.(type) {
	case *format.MilliSeconds:
		return arrow.Millisecond
	case *format.MicroSeconds:
		return arrow.Microsecond
	case *format.NanoSeconds:
		return arrow.Nanosecond
	}
	refuse("a time has no unit")
	return 0
}

// timeOf returns the type of a column of times of the day.
func timeOf(node *parquet.Column, unit arrow.TimeUnit) (arrow.DataType, appender) {
	day := int64(24 * time.Hour / unit.Multiplier())
	within := func(n int64) int64 {
		if n < 0 || n >= day {
			refuse("a time is not within a day")
		}
		return n
	}
	switch kind := node.Type().Kind(); {
	case kind == parquet.Int32 && unit == arrow.Millisecond:
		return arrow.FixedWidthTypes.Time32ms, func(to array.Builder, v parquet.Value) {
			to.(*array.Time32Builder).Append(arrow.Time32(within(int64(v.Int32()))))
		}
	case kind == parquet.Int64 && unit != arrow.Millisecond:
		return &arrow.Time64Type{Unit: unit}, func(to array.Builder, v parquet.Value) {
			to.(*array.Time64Builder).Append(arrow.Time64(within(v.Int64())))
		}
	}
	unsupported(node)
	return nil, nil
}

// timestampOf returns the type of a column of times. One in UTC has the zone of the hint,
// and one in milliseconds its seconds.
func timestampOf(unit arrow.TimeUnit, utc bool, hint arrow.DataType) (arrow.DataType, appender) {
	kind := &arrow.TimestampType{Unit: unit}
	if utc {
		kind.TimeZone = "UTC"
		if hinted, ok := hint.(*arrow.TimestampType); ok && hinted.TimeZone != "" {
			kind.TimeZone = hinted.TimeZone
		}
	}
	if hinted, ok := hint.(*arrow.TimestampType); ok && hinted.Unit == arrow.Second && unit == arrow.Millisecond {
		kind.Unit = arrow.Second
		return kind, appendSeconds
	}
	return kind, func(to array.Builder, v parquet.Value) {
		to.(*array.TimestampBuilder).Append(arrow.Timestamp(v.Int64()))
	}
}

// appendSeconds appends a time that was in seconds, which files do not have.
func appendSeconds(to array.Builder, v parquet.Value) {
	if v.Int64()%1000 != 0 {
		refuse("a time in seconds has a fraction")
	}
	to.(*array.TimestampBuilder).Append(arrow.Timestamp(v.Int64() / 1000))
}

// appendInt96 appends a time of older programs: the nanoseconds of a Julian day.
func appendInt96(to array.Builder, v parquet.Value) {
	const epoch, nanosPerDay = 2440588, int64(24 * time.Hour)
	parts := v.Int96()
	nanos, day := int64(uint64(parts[0])|uint64(parts[1])<<32), int64(parts[2])-epoch
	const most = math.MaxInt64/nanosPerDay - 1
	if day < -most || day > most || nanos < 0 || nanos >= nanosPerDay {
		refuse("a time does not fit in 64 bits of nanoseconds")
	}
	to.(*array.TimestampBuilder).Append(arrow.Timestamp(day*nanosPerDay + nanos))
}
