// Package imports holds the rules of who may import whom. They are tests; there is nothing to call.
package imports
