package program

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// ArgumentCount checks the number of arguments. The name of the first argument appears in
// the message if it is missing; a negative most means any number.
func ArgumentCount(least, most int, name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return fmt.Errorf("the %s is missing", name)
		case most >= 0 && len(args) > most:
			return fmt.Errorf("unexpected argument %q", args[most])
		}
		return nil
	}
}

// AddOutputFlag adds the flag --output of commands that print text or JSON.
func AddOutputFlag(c *cobra.Command, format *string) {
	c.Flags().StringVarP(format, "output", "o", "text", "text or json")
}

// TimeSpan is the value of a flag that takes a time in the form of manifests: 1m30s, or a
// number of seconds.
type TimeSpan time.Duration

// Set implements pflag.Value.
func (t *TimeSpan) Set(text string) error {
	d, err := time.ParseDuration(text)
	if seconds, parsing := strconv.ParseFloat(text, 64); parsing == nil {
		d, err = time.Duration(seconds*float64(time.Second)), nil
	}
	if err != nil || d <= 0 {
		return errors.New("it takes a time such as 500ms, 90s or 5m, or a number of seconds")
	}
	*t = TimeSpan(d)
	return nil
}

// String implements pflag.Value.
func (t *TimeSpan) String() string {
	if *t == 0 {
		return "" // so that the help shows no default
	}
	return time.Duration(*t).String()
}

// Type implements pflag.Value.
func (t *TimeSpan) Type() string { return "time" }
