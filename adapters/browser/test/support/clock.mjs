// The time that libraries are told. Some keep `Date.now` as it was when they were loaded, so tests import this file before them.

const { now } = Date;
let world = null;
Date.now = () => world?.now ?? now();

/** From now on the time is this world's, until the test is over. */
export function follow(t, given) {
  world = given;
  t.after(() => (world = null));
}
