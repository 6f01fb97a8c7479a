/** What the package knows of WebAssembly: its types, for programs without the DOM library, too, and its pages. */

/** By how many bytes memory grows. */
export const WASM_PAGE = 65536;

/** The type of `WebAssembly[Name]`, where TypeScript knows it; else the other one. */
type Known<Name extends string, Other> = typeof globalThis extends {
  readonly WebAssembly: Readonly<Record<Name, { readonly prototype: infer Type }>>;
}
  ? Type
  : Other;

export type Memory = Known<
  "Memory",
  {
    readonly buffer: ArrayBuffer;
    /** By pages of 64 KiB. Returns how many there were. */
    grow(pages: number): number;
  }
>;
export type Module = Known<"Module", object>;
