package main

import (
	"os"
	"testing"
)

func TestIdentityIsKeptWithTheInstanceUID(t *testing.T) {
	dir := t.TempDir() + "/state"
	first, err := loadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.by() != "token" {
		t.Errorf("without a certificate it connects by %s", first.by())
	}
	first.Certificate, first.Endpoint = "a certificate", "wss://edge"
	if err := first.save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := loadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again != first || again.by() != "certificate" {
		t.Errorf("kept %+v, found %+v", first, again)
	}
	info, err := os.Stat(identityFile(dir))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v: want mode 0600", info, err)
	}
}
