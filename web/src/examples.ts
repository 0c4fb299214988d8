/** Texts to begin with. */

const TOPICS: Record<string, readonly string[]> = {
  cooking: [
    "Knead the dough until it is smooth and elastic.",
    "Simmer the tomatoes with garlic for half an hour.",
    "Fold the egg whites into the batter with a spoon.",
    "Let the roast rest before you carve it.",
    "Toast the spices in a dry pan to bring out their aroma.",
    "A pinch of salt makes the chocolate taste richer.",
    "Boil the pasta in plenty of salted water.",
    "Whisk oil and vinegar to a dressing.",
  ],
  astronomy: [
    "The telescope recorded light from a distant galaxy.",
    "Jupiter has more than ninety known moons.",
    "A solar eclipse happens when the moon covers the sun.",
    "The comet returns to the inner solar system every 76 years.",
    "Neutron stars are the remains of massive stars.",
    "The probe sent pictures of the rings of Saturn.",
    "Astronomers measure distances in light years.",
    "Mars has a thin atmosphere of carbon dioxide.",
  ],
  sport: [
    "The striker scored twice in the second half.",
    "She won the marathon in two hours and twenty minutes.",
    "The referee showed a red card after the foul.",
    "Our team lost the final on penalties.",
    "He served an ace to win the tennis match.",
    "The swimmer broke the national record.",
    "Training begins with ten minutes of running.",
    "The goalkeeper saved a shot from close range.",
  ],
  money: [
    "The central bank raised its interest rate.",
    "Shares of the company fell after the report.",
    "Inflation makes savings worth less over time.",
    "They paid back the mortgage in fifteen years.",
    "The budget has a deficit of two billion.",
    "Investors buy bonds when markets are nervous.",
    "The exchange rate of the euro hardly moved.",
    "A tax return lists all income of the year.",
  ],
  music: [
    "The orchestra tuned before the symphony.",
    "She plays the cello in a string quartet.",
    "The drummer kept a steady rhythm.",
    "This song has three chords and a simple melody.",
    "The choir rehearsed in the old church.",
    "He learned the guitar from his grandfather.",
    "Vinyl records are popular again.",
    "The pianist played a nocturne as an encore.",
  ],
};

/** Sentences with their topics, as CSV. */
export const MAP_EXAMPLE = [
  "text,topic",
  ...Object.entries(TOPICS).flatMap(([topic, texts]) => texts.map((text) => `"${text}",${topic}`)),
].join("\n");

/** Small files to search. */
export const SEARCH_EXAMPLE: readonly { name: string; content: string }[] = [
  {
    name: "coffee.md",
    content: `# Coffee

## Brewing
Use 60 grams of coffee for a litre of water. Water just below boiling, at about 94 degrees, dissolves the most pleasant flavours.

Coffee that tastes sour was extracted too little: grind it finer, or brew it longer. Bitter coffee was extracted too much: grind it coarser.

## Storage
Keep the beans in a closed jar, away from light. They are best within four weeks of roasting. Freezing slows ageing down, if the jar is airtight.

## Cleaning
Rinse the machine after each use. Remove limescale once a month with citric acid, and flush it twice with fresh water.`,
  },
  {
    name: "bicycle.md",
    content: `# Bicycle care

## Chain
Clean the chain with a cloth, then put one drop of oil on each roller and wipe off the rest. A chain that skips under load is worn and must be replaced.

## Tyres
City tyres need 3 to 4 bar. A soft tyre rolls badly and is punctured more often. Find a puncture by pumping the tube up and holding it under water.

## Brakes
Replace brake pads when the grooves are gone. If the lever reaches the handlebar, tighten the cable. Squealing pads are often dirty or not parallel to the rim.

## Lights
The law asks for a white light in front and a red light behind after dark.`,
  },
  {
    name: "library.txt",
    content: `The library is open from ten to seven, on Saturdays until four.

Members borrow up to twenty books for four weeks. A loan can be renewed twice, unless someone else has reserved the book. Each day of delay costs twenty cents a book.

A lost card is replaced for five euros. Bring an identity document.

Rooms for groups can be booked at the desk or online, two weeks ahead at most. Printing costs ten cents a page.`,
  },
];

export const QUESTION_EXAMPLE = "Why does my espresso taste sour?";
