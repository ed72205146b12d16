//go:build !unix

package edge

// maxFiles is how many files this process may have open, 0 if that is not known.
func maxFiles() uint64 { return 0 }
