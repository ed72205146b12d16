//go:build !unix

package idfiles

import "os"

// lockDir does not lock: two runs into one directory at once are left to the person who starts them.
func lockDir(string) (*os.File, error) { return nil, nil }

// own does nothing: permissions are inherited here.
func own(string, string) error { return nil }

// syncDir does nothing: directories cannot be synced here, renaming is durable by itself.
func syncDir(string) error { return nil }
