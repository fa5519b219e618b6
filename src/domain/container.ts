/** The ids of containers. */

/** Docker's ids: 64 digits in hexadecimal. */
export const CONTAINER_ID = /^[0-9a-f]{64}$/;

/** The start of an id, which is enough to look for it. A shorter text may be a name. */
const ID_START = /^[0-9a-f]{4,64}$/;

/** As many digits as Docker shows. */
const SHOWN_CHARS = 12;

export const shortId = (id: string): string => id.slice(0, SHOWN_CHARS);

export const isIdStart = (text: string): boolean => ID_START.test(text);

/** Whether `text` is the name of the container, or the start of its id. */
export const isCalled = (text: string, name: string | null, id: string | null): boolean =>
  name === text || (id !== null && isIdStart(text) && id.startsWith(text));
