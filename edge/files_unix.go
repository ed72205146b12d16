//go:build unix

package edge

import "syscall"

// maxFiles is how many files this process may have open, 0 if that is not known. Go raises the limit at the start as far as it may.
func maxFiles() uint64 {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return uint64(l.Cur)
}
