package tablefile

import (
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

// kinds is a set of the types that a column of text may have.
type kinds uint8

const (
	boolean kinds = 1 << iota
	integer
	decimal
	date
	local // a time without a zone
	zoned // a time with one
	every = boolean | integer | decimal | date | local | zoned
)

// inference finds the type of a column. The zero value has no values yet.
type inference struct {
	excluded kinds
	found    bool // a value that is not empty
	nanos    bool // a time has more than six digits behind the point
	distant  bool // a time does not fit in 64 bits of nanoseconds
}

// add takes a value into account. An empty one is a null and has each type.
func (c *inference) add(value string) {
	if value == "" {
		return
	}
	c.found = true
	if left := every &^ c.excluded; left != 0 {
		c.excluded |= left &^ c.kindsOf(value, left)
	}
}

// kindsOf returns which of some types a value has.
func (c *inference) kindsOf(value string, among kinds) kinds {
	var has kinds
	if among&boolean != 0 && isBool(value) {
		has |= boolean
	}
	if among&(integer|decimal) != 0 {
		has |= numberKinds(value)
	}
	if among&(date|local|zoned) != 0 {
		has |= c.timeKinds(value)
	}
	return has
}

// dataType returns the type of the column. A column without values is text.
func (c *inference) dataType() arrow.DataType {
	left := every &^ c.excluded
	unit := arrow.Microsecond
	if c.nanos {
		unit = arrow.Nanosecond
	}
	switch {
	case !c.found, c.nanos && c.distant && left&(integer|decimal|boolean|date) == 0:
		return arrow.BinaryTypes.String
	case left&boolean != 0:
		return arrow.FixedWidthTypes.Boolean
	case left&integer != 0:
		return arrow.PrimitiveTypes.Int64
	case left&decimal != 0:
		return arrow.PrimitiveTypes.Float64
	case left&date != 0:
		return arrow.FixedWidthTypes.Date32
	case left&local != 0:
		return &arrow.TimestampType{Unit: unit}
	case left&zoned != 0:
		return &arrow.TimestampType{Unit: unit, TimeZone: "UTC"}
	}
	return arrow.BinaryTypes.String
}

func isBool(value string) bool {
	switch value {
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return true
	}
	return false
}

// numberKinds returns whether a value is an integer of 64 bits, a number, or neither. One with
// zeros in front is neither, since it is a code, such as that of a bank; and so is a longer
// integer, which a number would round.
func numberKinds(value string) kinds {
	digits := strings.TrimPrefix(value, "-")
	switch {
	case digits == "NaN" && value == digits, digits == "nan" && value == digits, digits == "inf", digits == "Inf", digits == "Infinity":
		return decimal
	case strings.Trim(digits, "0123456789.eE+-") != "", digits == "", digits[0] == '+', digits[0] == '-':
		return 0
	case len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9':
		return 0
	}
	if _, err := strconv.ParseInt(value, 10, 64); err == nil {
		return integer | decimal
	}
	if !strings.ContainsAny(digits, ".eE") {
		return 0
	}
	if _, err := strconv.ParseFloat(value, 64); err != nil {
		return 0
	}
	return decimal
}

// The forms of dates and times. Seconds may have a fraction.
const dateForm = "2006-01-02"

var timeForms = []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04"}

// timeKinds returns whether a value is a date, a time, or neither. A date is a time, too.
func (c *inference) timeKinds(value string) kinds {
	if len(value) < len(dateForm) || value[4] != '-' || value[7] != '-' {
		return 0
	}
	if len(value) == len(dateForm) {
		day, err := time.Parse(dateForm, value)
		if err != nil {
			return 0
		}
		c.note(day, "")
		return date | local
	}
	fraction := ""
	if point := strings.IndexByte(value, '.'); point >= 0 {
		fraction = value[point+1:]
		fraction = fraction[:len(fraction)-len(strings.TrimLeft(fraction, "0123456789"))]
	}
	if len(fraction) > 9 || strings.Contains(value, ",") {
		return 0
	}
	for _, form := range timeForms {
		if at, err := time.Parse(form, value); err == nil {
			c.note(at, fraction)
			return local
		}
		if at, err := time.Parse(form+"Z07:00", value); err == nil {
			at = at.UTC()
			if at.Year() < 0 || at.Year() > 9999 { // in UTC, the text of its year has other than four digits
				return 0
			}
			c.note(at, fraction)
			return zoned
		}
	}
	return 0
}

// note remembers what a time needs of its unit.
func (c *inference) note(at time.Time, fraction string) {
	c.nanos = c.nanos || len(fraction) > 6
	c.distant = c.distant || at.Year() < 1678 || at.Year() > 2261
}
