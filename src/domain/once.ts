/** What is made when it is first asked for, and kept. */

/** Returns a function that makes it at the first call, and gives the same to all. When making it fails, those who wait
 *  get the error, and the next call tries again. */
export function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => {
    made ??= make().catch(error => {
      made = null;
      throw error;
    });
    return made;
  };
}
