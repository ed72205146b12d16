//go:build unix && !linux

package process

import "syscall"

// attributes put the program into a group of its own. Nothing ties it to us here: after a kill -9 of this program the children
// have to be ended by hand.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
