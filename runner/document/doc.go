// Package document converts between JSON documents and the values that nodes take and
// return. The command gophersnake and package serve use it for inputs and results.
//
// [Parse] keeps what encoding/json loses: the order of keys, and the digits of integers. A
// [Converter] turns a result into what JSON can express; [MediaOf] describes the parts of a
// result that need a form of their own: recordings, images, tensors and bytes. [Encode]
// writes a document.
//
// Errors are of type *[runner.Error], of kind serialization, unless the text is not JSON at
// all; see [ErrSyntax]. The functions may be called concurrently.
package document
