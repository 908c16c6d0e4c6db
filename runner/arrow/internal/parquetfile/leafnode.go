package parquetfile

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"
)

// marked is a type with a logical type that package parquet does not have.
type marked struct {
	parquet.Type
	logical format.LogicalTypeValue
}

// LogicalType returns the logical type.
func (m marked) LogicalType() *format.LogicalType { return &format.LogicalType{Value: m.logical} }

// ConvertedType returns nil: older readers do not know the type.
func (m marked) ConvertedType() *deprecated.ConvertedType { return nil }

// leafNode returns the node for a column that is not nested, and how its values are written. The
// node is nil if a file cannot hold the type.
func leafNode(kind arrow.DataType) (parquet.Node, valueWriter) {
	switch kind := kind.(type) {
	case *arrow.NullType:
		return parquet.Leaf(marked{parquet.Int32Type, new(format.NullType)}), func(arrow.Array, int) parquet.Value { return parquet.NullValue() }
	case *arrow.BooleanType:
		return parquet.Leaf(parquet.BooleanType), func(from arrow.Array, i int) parquet.Value {
			return parquet.BooleanValue(from.(*array.Boolean).Value(i))
		}
	case *arrow.Float16Type:
		return parquet.Leaf(marked{parquet.FixedLenByteArrayType(2), new(format.Float16Type)}), func(from arrow.Array, i int) parquet.Value {
			return parquet.FixedLenByteArrayValue(from.(*array.Float16).Value(i).ToLEBytes())
		}
	case *arrow.Float32Type:
		return parquet.Leaf(parquet.FloatType), func(from arrow.Array, i int) parquet.Value {
			return parquet.FloatValue(from.(*array.Float32).Value(i))
		}
	case *arrow.Float64Type:
		return parquet.Leaf(parquet.DoubleType), func(from arrow.Array, i int) parquet.Value {
			return parquet.DoubleValue(from.(*array.Float64).Value(i))
		}
	case *arrow.StringType, *arrow.LargeStringType, *arrow.StringViewType:
		return parquet.String(), func(from arrow.Array, i int) parquet.Value {
			return parquet.ByteArrayValue([]byte(from.(array.StringLike).Value(i)))
		}
	case *arrow.BinaryType, *arrow.LargeBinaryType, *arrow.BinaryViewType:
		return parquet.Leaf(parquet.ByteArrayType), func(from arrow.Array, i int) parquet.Value {
			return parquet.ByteArrayValue(from.(interface{ Value(i int) []byte }).Value(i))
		}
	case *arrow.FixedSizeBinaryType:
		if kind.ByteWidth == 0 {
			return nil, nil
		}
		return parquet.Leaf(parquet.FixedLenByteArrayType(kind.ByteWidth)), func(from arrow.Array, i int) parquet.Value {
			return parquet.FixedLenByteArrayValue(from.(*array.FixedSizeBinary).Value(i))
		}
	case arrow.DecimalType:
		return decimalNode(kind)
	}
	if node, value := integerNode(kind); node != nil {
		return node, value
	}
	return timeNode(kind)
}

// decimalNode returns the node for decimals, as bytes of the size that they have in Arrow.
func decimalNode(kind arrow.DecimalType) (parquet.Node, valueWriter) {
	if kind.GetScale() < 0 {
		return nil, nil
	}
	size := kind.BitWidth() / 8
	node := parquet.Decimal(int(kind.GetScale()), int(kind.GetPrecision()), parquet.FixedLenByteArrayType(size))
	return node, func(from arrow.Array, i int) parquet.Value {
		var words []uint64
		switch from := from.(type) {
		case *array.Decimal32:
			words = []uint64{uint64(int64(from.Value(i)))}
		case *array.Decimal64:
			words = []uint64{uint64(from.Value(i))}
		case *array.Decimal128:
			words = []uint64{from.Value(i).LowBits(), uint64(from.Value(i).HighBits())}
		case *array.Decimal256:
			four := from.Value(i).Array()
			words = four[:]
		}
		return parquet.FixedLenByteArrayValue(bigEndian(words, size))
	}
}

// integerNode returns the node for integers.
func integerNode(kind arrow.DataType) (parquet.Node, valueWriter) {
	switch kind.ID() {
	case arrow.INT8:
		return parquet.Int(8), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int32Value(int32(from.(*array.Int8).Value(i)))
		}
	case arrow.INT16:
		return parquet.Int(16), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int32Value(int32(from.(*array.Int16).Value(i)))
		}
	case arrow.INT32:
		return parquet.Leaf(parquet.Int32Type), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int32Value(from.(*array.Int32).Value(i))
		}
	case arrow.INT64:
		return parquet.Leaf(parquet.Int64Type), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int64Value(from.(*array.Int64).Value(i))
		}
	case arrow.UINT8:
		return parquet.Uint(8), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int32Value(int32(from.(*array.Uint8).Value(i)))
		}
	case arrow.UINT16:
		return parquet.Uint(16), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int32Value(int32(from.(*array.Uint16).Value(i)))
		}
	case arrow.UINT32:
		return parquet.Uint(32), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int32Value(int32(from.(*array.Uint32).Value(i)))
		}
	case arrow.UINT64:
		return parquet.Uint(64), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int64Value(int64(from.(*array.Uint64).Value(i)))
		}
	}
	return nil, nil
}

// units are Arrow's units of time in Parquet, which has no seconds.
var units = map[arrow.TimeUnit]parquet.TimeUnit{
	arrow.Second: parquet.Millisecond, arrow.Millisecond: parquet.Millisecond,
	arrow.Microsecond: parquet.Microsecond, arrow.Nanosecond: parquet.Nanosecond,
}

// timeNode returns the node for dates, times and durations.
func timeNode(kind arrow.DataType) (parquet.Node, valueWriter) {
	switch kind := kind.(type) {
	case *arrow.Date32Type:
		return parquet.Date(), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int32Value(int32(from.(*array.Date32).Value(i)))
		}
	case *arrow.Date64Type:
		return parquet.Date(), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int32Value(int32(arrow.Date32FromTime(from.(*array.Date64).Value(i).ToTime())))
		}
	case *arrow.Time32Type:
		factor := arrow.Time32(inMilliseconds(kind.Unit))
		return parquet.TimeAdjusted(parquet.Millisecond, false), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int32Value(int32(from.(*array.Time32).Value(i) * factor))
		}
	case *arrow.Time64Type:
		return parquet.TimeAdjusted(units[kind.Unit], false), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int64Value(int64(from.(*array.Time64).Value(i)))
		}
	case *arrow.TimestampType:
		factor := inMilliseconds(kind.Unit)
		return parquet.TimestampAdjusted(units[kind.Unit], kind.TimeZone != ""), func(from arrow.Array, i int) parquet.Value {
			at := int64(from.(*array.Timestamp).Value(i))
			if at > math.MaxInt64/factor || at < math.MinInt64/factor {
				panic(&TypeError{Reason: "has a time that does not fit in 64 bits of milliseconds, which Parquet files have instead of seconds"})
			}
			return parquet.Int64Value(at * factor)
		}
	case *arrow.DurationType:
		return parquet.Leaf(parquet.Int64Type), func(from arrow.Array, i int) parquet.Value {
			return parquet.Int64Value(int64(from.(*array.Duration).Value(i)))
		}
	}
	return nil, nil
}

// inMilliseconds returns the factor that turns seconds into milliseconds, 1 for other units.
func inMilliseconds(unit arrow.TimeUnit) int64 {
	if unit == arrow.Second {
		return 1000
	}
	return 1
}
