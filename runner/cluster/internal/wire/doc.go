// Package wire has the forms of values and errors in messages, the object store for values that
// are larger than a message, and names as tokens of subjects. Package cluster and the packages
// below it use it.
package wire
