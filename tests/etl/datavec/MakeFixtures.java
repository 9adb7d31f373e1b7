import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.UnaryOperator;

import org.datavec.api.transform.ColumnType;
import org.datavec.api.transform.Distance;
import org.datavec.api.transform.MathFunction;
import org.datavec.api.transform.MathOp;
import org.datavec.api.transform.ReduceOp;
import org.datavec.api.transform.Transform;
import org.datavec.api.transform.TransformProcess;
import org.datavec.api.transform.condition.BooleanCondition;
import org.datavec.api.transform.condition.Condition;
import org.datavec.api.transform.condition.ConditionOp;
import org.datavec.api.transform.condition.column.CategoricalColumnCondition;
import org.datavec.api.transform.condition.column.DoubleColumnCondition;
import org.datavec.api.transform.condition.column.FloatColumnCondition;
import org.datavec.api.transform.condition.column.InfiniteColumnCondition;
import org.datavec.api.transform.condition.column.IntegerColumnCondition;
import org.datavec.api.transform.condition.column.InvalidValueColumnCondition;
import org.datavec.api.transform.condition.column.LongColumnCondition;
import org.datavec.api.transform.condition.column.NaNColumnCondition;
import org.datavec.api.transform.condition.column.NullWritableColumnCondition;
import org.datavec.api.transform.condition.column.StringColumnCondition;
import org.datavec.api.transform.condition.column.TimeColumnCondition;
import org.datavec.api.transform.condition.column.TrivialColumnCondition;
import org.datavec.api.transform.condition.string.StringRegexColumnCondition;
import org.datavec.api.transform.filter.FilterInvalidValues;
import org.datavec.api.transform.filter.InvalidNumColumns;
import org.datavec.api.transform.metadata.ColumnMetaData;
import org.datavec.api.transform.metadata.DoubleMetaData;
import org.datavec.api.transform.ops.IAggregableReduceOp;
import org.datavec.api.transform.reduce.Reducer;
import org.datavec.api.transform.schema.Schema;
import org.datavec.api.transform.sequence.comparator.NumericalColumnComparator;
import org.datavec.api.transform.serde.JsonMappers;
import org.datavec.api.transform.transform.categorical.PivotTransform;
import org.datavec.api.transform.transform.floattransform.ConvertToFloat;
import org.datavec.api.transform.transform.doubletransform.Log2Normalizer;
import org.datavec.api.transform.transform.doubletransform.MinMaxNormalizer;
import org.datavec.api.transform.transform.doubletransform.StandardizeNormalizer;
import org.datavec.api.transform.transform.doubletransform.SubtractMeanNormalizer;
import org.datavec.api.transform.transform.integer.ReplaceEmptyIntegerWithValueTransform;
import org.datavec.api.transform.transform.integer.ReplaceInvalidWithIntegerTransform;
import org.datavec.api.transform.transform.nlp.TextToCharacterIndexTransform;
import org.datavec.api.transform.transform.nlp.TextToTermIndexSequenceTransform;
import org.datavec.api.transform.transform.parse.ParseDoubleTransform;
import org.datavec.api.transform.transform.string.ChangeCaseStringTransform;
import org.datavec.api.transform.transform.string.ConcatenateStringColumns;
import org.datavec.api.transform.transform.string.MapAllStringsExceptListTransform;
import org.datavec.api.transform.transform.string.ReplaceEmptyStringTransform;
import org.datavec.api.transform.transform.string.StringListToCategoricalSetTransform;
import org.datavec.api.transform.transform.string.StringListToCountsNDArrayTransform;
import org.datavec.api.transform.transform.time.DeriveColumnsFromTimeTransform;
import org.datavec.api.transform.transform.time.StringToTimeTransform;
import org.datavec.api.writable.BooleanWritable;
import org.datavec.api.writable.DoubleWritable;
import org.datavec.api.writable.FloatWritable;
import org.datavec.api.writable.IntWritable;
import org.datavec.api.writable.LongWritable;
import org.datavec.api.writable.NullWritable;
import org.datavec.api.writable.Text;
import org.datavec.api.writable.Writable;
import org.datavec.api.writable.comparator.LongWritableComparator;
import org.joda.time.DateTimeFieldType;
import org.joda.time.DateTimeZone;
import org.nd4j.shade.jackson.databind.ObjectMapper;

/**
 * Writes the fixtures of tests/etl/test_import_datavec.py: processes as DataVec itself writes them, and what DataVec
 * itself makes of rows. Run in this folder: mvn compile exec:exec
 *
 * FAMILY/NAME.json is a TransformProcess; NAME.rows.json has its schemas, rows and what became of each: a row, "removed"
 * by a filter, or "error: ..." where DataVec throws. A null among the inputs is the empty text that DataVec reads from CSV, and in condition_null the
 * NullWritable that it reads from elsewhere.
 */
public final class MakeFixtures {
    private static final Object[] DOUBLES = {0.0, -0.0, 1.0, -1.0, 0.1, 2.5, -2.5, 7.0, 1e308, -1e308, 5e-324, 1e16, 123456.789,
        Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY, 3.4e38, 2147483648.0, -2147483649.0, 1e-7, 3.0};
    private static final Object[] FLOATS = {0f, -0f, 1f, -1f, 0.1f, 2.5f, -2.5f, 7f, 3.4e38f, -3.4e38f, 1e-45f, 16777216f,
        123456.79f, Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, 2147483648f, 1e-7f, 3f};
    private static final Object[] INTEGERS = {0, 1, -1, 7, -7, 2, -3, 100, 46341, 2147483647, -2147483648, 2147483640, 1000003};
    private static final Object[] LONGS = {0L, 1L, -1L, 7L, -7L, 100L, 2147483648L, -2147483649L, 9007199254740992L,
        -9007199254740992L, 9007199254740985L, 9007199254740993L, Long.MAX_VALUE, Long.MIN_VALUE, 94906267L, 1234567890123L};
    private static final Object[] TEXTS = {"", " ", "a", "A b", "B", "a\tb\nc\u00a0d\u2003e\u000bf\rg", "\u00df", "\u0130stanbul",
        "e\u0301", "\u6f22\u5b57", "\ud83d\ude00", " 1 ", "NaN", "null", "\u0149", "\u03a3\u03b1\u03c3", "\u01c6", "\uff21", "\u212a", "AbC-12", "  x  "};
    private static final Object[] BESIDE = {0.5, -3.0};
    private static final String[] PATTERNS = {"\\d+", "[^\\w]+", "ab|a|b", "(a)(b)?", ".", "x{2,3}?", "[\\s,;]+", "\\.", "[a\\-z]", "\\u00e9",
        "^a", "[.$^]", "(?:ab)+c?", "\\S+", "[\\D]", "b{1}", "a+?b*", "[A-Za-z_][\\w.]*", "\\x41", "\\t|\\n|\\r", "[\\]\\[]", "(a|(b))+", "[ -/]"};
    private static final Object[] SAMPLES = {"aabbabc", "a.b,c;d e", "xxxx x xx", "A1_b2.C3-4", "line\none\r\ntwo\u2028three\u0085", "\u00e9\u00e8e\u0301",
        "\ud83d\ude00a\ud83d\ude00", "", "12 345", "[x]$^.", "\u0661\u0662 \uff11", "a-z", "\u00a0 \u2003\u000b"};
    private static final Object[] NUMERALS = {"1", "-2.5", "+3", " 4 ", "1e3", "1E-3", ".5", "5.", "", " ", "abc", "NaN", "Infinity",
        "-Infinity", "0x1F", "1f", "1d", "1e999", "007", "2147483647", "2147483648", "-2147483648", "1_000", "1,5", "\u0661", "-0", "0x1p3"};
    private static final Object[] INSTANTS = {0L, -1L, 1L, 86399999L, 86400000L, -86400001L, 951827228123L, 1704067199999L,
        1704067200000L, 253402300799999L, -62135596800000L, -12219292800000L, 1582934400000L, 1609455600000L, 1735516800000L};

    /** What a null among the inputs is to DataVec. */
    private static Writable missing = new Text("");

    private final Path root;
    private Path folder;
    private final ObjectMapper mapper = new ObjectMapper();

    private MakeFixtures(Path root) {
        this.root = root;
    }

    public static void main(String[] arguments) throws Exception {
        Locale.setDefault(Locale.ENGLISH);
        MakeFixtures fixtures = new MakeFixtures(Path.of(arguments[0]));
        fixtures.family("columns").columns();
        fixtures.family("conversions").conversions();
        fixtures.family("arithmetic").arithmetic();
        fixtures.family("functions").functions();
        fixtures.family("normalizers").normalizers();
        fixtures.family("categories").categories();
        fixtures.family("texts").texts();
        fixtures.family("replacements").replacements();
        fixtures.family("times").times();
        fixtures.family("tokens").tokens();
        fixtures.family("conditions").conditions();
        fixtures.family("filters").filters();
        fixtures.family("reducers").reducers();
        fixtures.family("whole").whole();
        fixtures.family("chains").chains();
        fixtures.family("unsupported").unsupported();
    }

    private MakeFixtures family(String name) throws Exception {
        folder = Files.createDirectories(root.resolve(name));
        return this;
    }

    // ------------------------------------------------------------------------------------------------ fixtures

    private void columns() throws Exception {
        Schema every = new Schema.Builder()
            .addColumnString("code", "[A-Z]+", 1, 3).addColumnInteger("age", 18, 110).addColumnLong("n", -5L, null)
            .addColumnDouble("x", 0.0, 1e7, true, false).addColumnFloat("y", -1f, 1f, false, true)
            .addColumnCategorical("grade", "A", "B").addColumnTime("at", DateTimeZone.UTC, 0L, 253402300799999L)
            .addColumnBoolean("flag").build();
        save("schema_types", new TransformProcess.Builder(every).renameColumn("n", "count").build(), zip(
            new Object[] {"AB", "", "abcd"}, new Object[] {18, 17, 2147483647}, new Object[] {-5L, -6L, Long.MAX_VALUE},
            DOUBLES, FLOATS, new Object[] {"A", "B", "C"}, INSTANTS, new Object[] {true, false}));
        Schema five = new Schema.Builder().addColumnDouble("a").addColumnString("b").addColumnInteger("c")
            .addColumnLong("d").addColumnFloat("e").build();
        Object[][] rows = zip(DOUBLES, TEXTS, INTEGERS, LONGS, FLOATS);
        save("remove_columns", new TransformProcess.Builder(five).removeColumns("b", "d").build(), rows);
        save("keep_columns", new TransformProcess.Builder(five).removeAllColumnsExceptFor("e", "a").build(), rows);
        save("rename_columns", new TransformProcess.Builder(five)
            .renameColumns(List.of("a", "e"), List.of("e", "a")).renameColumn("c", "count").build(), rows);
        save("reorder_columns", new TransformProcess.Builder(five).reorderColumns("e", "c").build(), rows);
        save("duplicate_columns", new TransformProcess.Builder(five)
            .duplicateColumns(List.of("e", "a"), List.of("first", "second")).duplicateColumn("b", "b2").build(), rows);
        save("constant_columns", new TransformProcess.Builder(five).addConstantDoubleColumn("half", 0.5)
            .addConstantIntegerColumn("one", 1).addConstantLongColumn("big", 9007199254740991L)
            .addConstantColumn("word", ColumnType.String, new Text("x y"))
            .addConstantColumn("single", ColumnType.Float, new FloatWritable(0.1f)).build(), rows);
        save("constant_of_other_kind", new TransformProcess.Builder(five)
            .addConstantColumn("whole", ColumnType.Double, new IntWritable(3))
            .doubleMathOp("whole", MathOp.Add, 0.5).build(), rows);
        save("constant_not_finite", new TransformProcess.Builder(five).addConstantDoubleColumn("nan", Double.NaN)
            .addConstantDoubleColumn("inf", Double.POSITIVE_INFINITY).build(), rows);
    }

    private void conversions() throws Exception {
        Map<ColumnType, Object[]> values = new LinkedHashMap<>();
        values.put(ColumnType.String, NUMERALS);
        values.put(ColumnType.Integer, INTEGERS);
        values.put(ColumnType.Long, LONGS);
        values.put(ColumnType.Double, DOUBLES);
        values.put(ColumnType.Float, FLOATS);
        values.put(ColumnType.Time, INSTANTS);
        values.put(ColumnType.Boolean, new Object[] {true, false});
        values.put(ColumnType.Categorical, new Object[] {"1", "2.5", "x"});
        for (Map.Entry<ColumnType, Object[]> entry : values.entrySet()) {
            ColumnType type = entry.getKey();
            String name = type.name().toLowerCase(Locale.ROOT);
            Object[][] rows = withNull(zip(entry.getValue()));
            save("double_of_" + name, start(type).convertToDouble("x").build(), rows);
            save("integer_of_" + name, start(type).convertToInteger("x").build(), rows);
            save("string_of_" + name, beside(type).convertToString("x").build(), withNull(zip(entry.getValue(), BESIDE)));
            if (type == ColumnType.String || type == ColumnType.Long || type == ColumnType.Double) {
                save("float_of_" + name, start(type).transform(new ConvertToFloat("x")).build(), rows);
            }
        }
        Schema three = new Schema.Builder().addColumnString("a").addColumnInteger("b").addColumnString("c").build();
        save("parse_double", new TransformProcess.Builder(three).transform(new ParseDoubleTransform()).build(),
            zip(NUMERALS, INTEGERS, new Object[] {"1.5", "2", "x"}));
    }

    private void arithmetic() throws Exception {
        List<MathOp> sums = List.of(MathOp.Add, MathOp.Subtract, MathOp.ReverseSubtract, MathOp.ScalarMin, MathOp.ScalarMax);
        List<MathOp> products = List.of(MathOp.Multiply, MathOp.ReverseDivide);
        List<MathOp> quotients = List.of(MathOp.Divide, MathOp.Modulus);
        Object[] whole = without(INTEGERS, 0);
        Object[] wide = without(LONGS, 0L);
        for (int scalar : new int[] {7, -3}) {
            String suffix = scalar == 7 ? "" : "_negative";
            save("integer_sums" + suffix, integerMath(sums, scalar), zip(INTEGERS));
            save("integer_products" + suffix, integerMath(products, scalar), zip(whole));
            save("integer_quotients" + suffix, integerMath(quotients, scalar), zip(INTEGERS));
            save("long_sums" + suffix, longMath(sums, scalar), zip(LONGS));
            save("long_products" + suffix, longMath(products, scalar), zip(wide));
            save("long_quotients" + suffix, longMath(quotients, scalar), zip(LONGS));
        }
        save("integer_reverse_divide", integerMath(List.of(MathOp.ReverseDivide), 7), zip(INTEGERS));
        save("integer_by_zero", integerMath(quotients, 0), zip(INTEGERS));
        List<MathOp> but = new ArrayList<>(List.of(MathOp.values()));
        but.removeAll(quotients);
        for (double scalar : new double[] {2.5, 0.0, -0.0, -0.1}) {
            String suffix = scalar == 2.5 ? "" : scalar == -0.1 ? "_negative" : 1 / scalar > 0 ? "_zero" : "_minus_zero";
            List<MathOp> ops = scalar == 0 ? but : List.of(MathOp.values());
            save("double_math" + suffix, doubleMath(ops, scalar), withNull(zip(DOUBLES)));
            save("float_math" + suffix, floatMath(ops, (float) scalar), zip(FLOATS));
        }
        save("double_by_zero", doubleMath(quotients, 0.0), zip(DOUBLES));
        String[] pair = {"a", "b"};
        String[] many = {"a", "b", "a"};
        for (MathOp op : List.of(MathOp.Add, MathOp.Subtract, MathOp.Multiply, MathOp.Divide, MathOp.Modulus)) {
            String name = op.name().toLowerCase(Locale.ROOT);
            String[] columns = op == MathOp.Add || op == MathOp.Multiply ? many : pair;
            save("integer_columns_" + name, new TransformProcess.Builder(new Schema.Builder().addColumnsInteger(pair).build())
                .integerColumnsMathOp("c", op, columns).build(), cross(INTEGERS));
            save("long_columns_" + name, new TransformProcess.Builder(new Schema.Builder().addColumnsLong(pair).build())
                .longColumnsMathOp("c", op, columns).build(), cross(Arrays.copyOf(LONGS, 13)));
            save("double_columns_" + name, new TransformProcess.Builder(new Schema.Builder().addColumnsDouble(pair).build())
                .doubleColumnsMathOp("c", op, columns).build(), cross(Arrays.copyOf(DOUBLES, 17)));
            save("float_columns_" + name, new TransformProcess.Builder(new Schema.Builder().addColumnsFloat(pair).build())
                .floatColumnsMathOp("c", op, columns).build(), cross(Arrays.copyOf(FLOATS, 17)));
        }
        save("float_chain", start(ColumnType.Float).floatMathOp("x", MathOp.Multiply, 0.1f)
            .floatMathOp("x", MathOp.Add, 0.3f).floatMathFunction("x", MathFunction.SQRT)
            .floatMathOp("x", MathOp.Divide, 3f).build(), zip(FLOATS));
        save("integer_chain", start(ColumnType.Integer).integerMathOp("x", MathOp.Multiply, 3)
            .integerMathOp("x", MathOp.Modulus, 10).duplicateColumn("x", "y").integerMathOp("y", MathOp.Subtract, 100)
            .integerColumnsMathOp("z", MathOp.Multiply, "x", "y").build(), zip(INTEGERS));
    }

    private void functions() throws Exception {
        Object[] domain = {0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.1, 2.0, 10.0, 1000.0, 2.5, -2.5, 1e-7, 700.0, 1e300, 5e-324,
            Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY, 123456.789};
        Object[] single = Arrays.stream(domain).map(value -> ((Double) value).floatValue()).toArray();
        List<MathFunction> plain = List.of(MathFunction.ABS, MathFunction.CEIL, MathFunction.EXP, MathFunction.FLOOR,
            MathFunction.LOG, MathFunction.LOG10, MathFunction.SIGNUM, MathFunction.SQRT);
        List<MathFunction> angles = new ArrayList<>(List.of(MathFunction.values()));
        angles.removeAll(plain);
        for (boolean simple : new boolean[] {true, false}) {
            TransformProcess.Builder doubles = start(ColumnType.Double);
            TransformProcess.Builder floats = start(ColumnType.Float);
            for (MathFunction function : simple ? plain : angles) {
                String name = function.name().toLowerCase(Locale.ROOT);
                doubles.duplicateColumn("x", name).doubleMathFunction(name, function);
                floats.duplicateColumn("x", name).floatMathFunction(name, function);
            }
            save(simple ? "double_functions" : "double_angles", doubles.build(), zip(domain));
            save(simple ? "float_functions" : "float_angles", floats.build(), zip(single));
        }
    }

    private void normalizers() throws Exception {
        Map<String, Transform> normalizers = new LinkedHashMap<>();
        normalizers.put("standardize", new StandardizeNormalizer("x", 0.3, 21000.7));
        normalizers.put("standardize_constant", new StandardizeNormalizer("x", 0.3, 0.0));
        normalizers.put("subtract_mean", new SubtractMeanNormalizer("x", 0.3));
        normalizers.put("minmax", new MinMaxNormalizer("x", -0.7, 123.4));
        normalizers.put("minmax_symmetric", new MinMaxNormalizer("x", -0.7, 123.4, -1, 1));
        normalizers.put("minmax_constant", new MinMaxNormalizer("x", 3, 3));
        normalizers.put("minmax_flat", new MinMaxNormalizer("x", 0, 1, 2, 2));
        normalizers.put("log2", new Log2Normalizer("x", 10.5, -3.25, 0.5));
        for (Map.Entry<String, Transform> entry : normalizers.entrySet()) {
            save(entry.getKey(), start(ColumnType.Double).transform(entry.getValue()).build(),
                withNull(zip(DOUBLES)));
        }
        save("standardize_of_integer", start(ColumnType.Integer)
            .transform(new StandardizeNormalizer("x", 3.5, 0.7)).build(), zip(INTEGERS));
    }

    private void categories() throws Exception {
        Object[] words = {"low", "high", "mid\u00e9", "", "LOW", "other"};
        Schema schema = new Schema.Builder().addColumnDouble("a").addColumnCategorical("c", "low", "high", "mid\u00e9", "")
            .addColumnString("s").build();
        Object[][] rows = zip(new Object[] {1.5, -0.0}, words, TEXTS);
        save("categorical_to_integer", new TransformProcess.Builder(schema).categoricalToInteger("c").build(), rows);
        save("categorical_to_one_hot", new TransformProcess.Builder(schema).categoricalToOneHot("c").build(), rows);
        save("one_hot_in_pieces", new TransformProcess.Builder(schema).categoricalToOneHot("c")
            .integerMathOp("c[high]", MathOp.Multiply, 5).removeColumns("c[]").renameColumn("c[low]", "is_low")
            .reorderColumns("is_low", "a").build(), rows);
        save("one_hot_unread", new TransformProcess.Builder(schema).categoricalToOneHot("c")
            .removeAllColumnsExceptFor("a").build(), rows);
        save("string_to_categorical", new TransformProcess.Builder(schema).stringToCategorical("s", List.of("B", "a", "A b"))
            .categoricalToInteger("s").build(), rows);
        Object[] small = {0, 1, 2, 3, -1, 2147483647};
        save("integer_to_categorical", beside(ColumnType.Integer)
            .integerToCategorical("x", List.of("zero", "one", "two")).build(), zip(small, BESIDE));
        Map<Integer, String> names = new LinkedHashMap<>();
        names.put(3, "three");
        names.put(-1, "minus");
        save("integer_to_categorical_map", start(ColumnType.Integer)
            .integerToCategorical("x", names).categoricalToOneHot("x").build(), zip(small));
        save("integer_to_one_hot", start(ColumnType.Integer)
            .integerToOneHot("x", -1, 2).build(), zip(small));
    }

    private void texts() throws Exception {
        Map<String, String> map = new LinkedHashMap<>();
        map.put("a", "alpha");
        map.put("", "empty");
        map.put("\u6f22\u5b57", "kanji");
        map.put("B", "a");
        text("string_map", builder -> builder.stringMapTransform("x", map));
        Map<String, String> regexes = new LinkedHashMap<>();
        regexes.put("[aeiou]+", "<$0>");
        regexes.put("^[ ]+|[ ]+$", "");
        regexes.put("([A-Z])-([0-9])", "$2\\$$1");
        text("replace_string", builder -> builder.replaceStringTransform("x", regexes));
        text("replace_string_classes", builder -> builder.replaceStringTransform("x", Map.of("\\s+", "_")));
        text("replace_string_lookahead", builder -> builder.replaceStringTransform("x", Map.of("a(?= )", "_")));
        TransformProcess.Builder many = beside(ColumnType.String);
        for (int index = 0; index < PATTERNS.length; index++) {
            many.duplicateColumn("x", "p" + index).replaceStringTransform("p" + index, Map.of(PATTERNS[index], "<$0>"));
        }
        save("replace_string_patterns", many.build(), zip(SAMPLES, BESIDE));
        text("replace_string_end", step -> step.replaceStringTransform("x", Map.of("[ \\t]+$|g$", "")));
        text("replace_empty_string", builder -> builder.transform(new ReplaceEmptyStringTransform("x", "none")));
        text("lower_case", builder -> builder.transform(
            new ChangeCaseStringTransform("x", ChangeCaseStringTransform.CaseType.LOWER)));
        text("upper_case", builder -> builder.transform(
            new ChangeCaseStringTransform("x", ChangeCaseStringTransform.CaseType.UPPER)));
        int[][] ranges = {{0, 0x17f}, {0x300, 0x36f}, {0x384, 0x3ce}, {0x400, 0x530}, {0x590, 0x5ff}, {0x3040, 0x30ff}, {0xff00, 0xffef}};
        List<Object> letters = new ArrayList<>();
        for (int[] range : ranges) {
            for (int first = range[0]; first <= range[1]; first += 8) {
                StringBuilder row = new StringBuilder();
                for (int sign = first; sign < first + 8 && sign <= range[1]; sign++) {
                    row.appendCodePoint(sign);
                }
                letters.add(row.toString());
            }
        }
        for (ChangeCaseStringTransform.CaseType to : ChangeCaseStringTransform.CaseType.values()) {
            save(to.name().toLowerCase(Locale.ROOT) + "_case_letters", beside(ColumnType.String)
                .transform(new ChangeCaseStringTransform("x", to)).build(), zip(letters.toArray(), BESIDE));
        }
        text("append_string", builder -> builder.appendStringColumnTransform("x", "-\u00e9"));
        text("remove_white_space", builder -> builder.stringRemoveWhitespaceTransform("x"));
        text("map_all_except", builder -> builder.transform(
            new MapAllStringsExceptListTransform("x", "other", List.of("a", "B", ""))));
        Schema three = new Schema.Builder().addColumnString("a").addColumnInteger("b").addColumnCategorical("c", "x", "y").build();
        save("concatenate", new TransformProcess.Builder(three)
            .transform(new ConcatenateStringColumns("abc", "|", List.of("c", "a", "b", "a"))).build(),
            zip(TEXTS, INTEGERS, new Object[] {"x", "y"}));
        Schema number = new Schema.Builder().addColumnDouble("a").addColumnString("b").build();
        save("concatenate_double", new TransformProcess.Builder(number)
            .transform(new ConcatenateStringColumns("ab", "", List.of("a", "b"))).build(), zip(DOUBLES, TEXTS));
        save("append_to_integer", beside(ColumnType.Integer).appendStringColumnTransform("x", "%").build(), zip(INTEGERS, BESIDE));
    }

    private void replacements() throws Exception {
        Schema schema = new Schema.Builder().addColumnDouble("x").addColumnInteger("i").addColumnString("s")
            .addColumnDouble("y").addColumnCategorical("c", "A", "B").build();
        Object[][] rows = zip(DOUBLES, INTEGERS, TEXTS, new Object[] {-1.5, 4.0}, new Object[] {"A", "B"});
        Condition negative = new DoubleColumnCondition("x", ConditionOp.LessThan, 0.0);
        save("conditional_replace", new TransformProcess.Builder(schema)
            .conditionalReplaceValueTransform("x", new DoubleWritable(0.25), negative)
            .conditionalReplaceValueTransform("i", new IntWritable(-9), new IntegerColumnCondition("i", ConditionOp.GreaterThan, 7))
            .conditionalReplaceValueTransform("s", new Text("big"), new IntegerColumnCondition("i", ConditionOp.Equal, -9))
            .conditionalReplaceValueTransform("c", new Text("B"), new StringColumnCondition("s", ConditionOp.NotEqual, "big"))
            .build(), rows);
        save("conditional_replace_other_kind", new TransformProcess.Builder(schema)
            .conditionalReplaceValueTransform("x", new IntWritable(3), negative)
            .doubleMathOp("x", MathOp.Divide, 2.0).build(), rows);
        save("conditional_replace_default", new TransformProcess.Builder(schema)
            .conditionalReplaceValueTransformWithDefault("x", new DoubleWritable(1), new DoubleWritable(-1), negative)
            .conditionalReplaceValueTransformWithDefault("s", new Text("yes"), new Text("no"),
                new CategoricalColumnCondition("c", ConditionOp.Equal, "A"))
            .build(), rows);
        save("conditional_copy", new TransformProcess.Builder(schema).conditionalCopyValueTransform("x", "y", negative)
            .build(), rows);
        save("conditional_copy_other_kind", new TransformProcess.Builder(schema)
            .conditionalCopyValueTransform("s", "x", negative).build(), rows);
        save("replace_empty_integer", start(ColumnType.Integer)
            .transform(new ReplaceEmptyIntegerWithValueTransform("x", -1)).build(), withNull(zip(INTEGERS)));
        Schema ranged = new Schema.Builder().addColumnInteger("x", 0, 100).build();
        save("replace_invalid_integer", new TransformProcess.Builder(ranged)
            .transform(new ReplaceInvalidWithIntegerTransform("x", -1)).build(), withNull(zip(INTEGERS)));
    }

    private void times() throws Exception {
        Object[] stamps = {"2024-02-29 23:59:58", "1969-12-31 00:00:00", "2024-02-30 00:00:00", "2024-1-5 1:2:3", "", "x",
            "2024-02-29", " 2024-02-29 01:02:03 ", "2024-02-29T01:02:03", "0001-01-01 00:00:00", "9999-12-31 23:59:59",
            "2024-02-29 24:00:00", "02024-02-29 01:02:03", "-0001-02-03 01:02:03", "2024-02-29 01:02:03.5"};
        String[] formats = {"YYYY-MM-dd HH:mm:ss", "yyyy-MM-dd HH:mm:ss", "YYYY-MM-dd'T'HH:mm:ss.SSSZ", "yyyy-MM-dd",
            "dd/MM/yyyy HH:mm", "dd MMM yyyy", "yyyyMMdd"};
        Object[][] examples = {stamps, stamps,
            {"2024-02-29T23:59:58.123+0200", "2024-02-29T23:59:58.123Z", "2024-02-29T23:59:58.123-05:30", "2024-02-29T23:59:58.1+0000"},
            {"2024-02-29", "2023-02-29", "2024-2-9", "2024-02-29 00:00"}, {"29/02/2024 13:45", "9/2/2024 1:5", "29/13/2024 00:00"},
            {"29 Feb 2024", "1 January 1999", "32 Feb 2024"}, {"20240229", "2024022", "202402290"}};
        for (int index = 0; index < formats.length; index++) {
            save("string_to_time_" + index, beside(ColumnType.String)
                .stringToTimeTransform("x", formats[index], DateTimeZone.UTC).build(), zip(examples[index], BESIDE));
        }
        save("string_to_time_zone", start(ColumnType.String).stringToTimeTransform("x",
            "yyyy-MM-dd HH:mm:ss", DateTimeZone.forID("Europe/Berlin")).build(), zip(stamps));
        Object[] guessed = {"2024-02-29T01:02:03.250", "2024-02-29T01:02:03Z", "2024-02-29T01:02:03.5Z", "2024-02-29T01:02:03+0530",
            "02/29/2024 13:45:01", "02/29/2024 13:45", "02/29/2024T13:45:01", "02/29/2024T13:45:01-0100", "2024:02:29 13:45:01",
            "20240229", "02/29/2024T13:45:01.125Z", "13:45", "29.02.2024", "2024-02-29'T'01:02:03"};
        save("string_to_time_guessed", beside(ColumnType.String).transform(new StringToTimeTransform("x", null, DateTimeZone.UTC))
            .build(), zip(java.util.stream.Stream.concat(Arrays.stream(stamps), Arrays.stream(guessed)).toArray(), BESIDE));
        save("derive_parts", derived(DateTimeFieldType.year(), DateTimeFieldType.monthOfYear(), DateTimeFieldType.dayOfMonth(),
            DateTimeFieldType.hourOfDay(), DateTimeFieldType.minuteOfHour(), DateTimeFieldType.dayOfWeek(),
            DateTimeFieldType.dayOfYear(), DateTimeFieldType.weekOfWeekyear(), DateTimeFieldType.secondOfMinute(),
            DateTimeFieldType.weekyear(), DateTimeFieldType.millisOfSecond(), DateTimeFieldType.minuteOfDay(),
            DateTimeFieldType.secondOfDay()), zip(INSTANTS));
        save("derive_other_parts", derived(DateTimeFieldType.millisOfDay(), DateTimeFieldType.hourOfHalfday(),
            DateTimeFieldType.clockhourOfDay(),
            DateTimeFieldType.clockhourOfHalfday(), DateTimeFieldType.halfdayOfDay(), DateTimeFieldType.era(),
            DateTimeFieldType.yearOfEra(), DateTimeFieldType.yearOfCentury(), DateTimeFieldType.centuryOfEra(),
            DateTimeFieldType.weekyearOfCentury()), zip(INSTANTS));
        save("derive_several", new TransformProcess.Builder(new Schema.Builder().addColumnString("s").addColumnDouble("a").build())
            .stringToTimeTransform("s", "yyyy-MM-dd HH:mm:ss", DateTimeZone.UTC)
            .transform(new DeriveColumnsFromTimeTransform.Builder("s").insertAfter("a")
                .addIntegerDerivedColumn("hour", DateTimeFieldType.hourOfDay())
                .addIntegerDerivedColumn("weekday", DateTimeFieldType.dayOfWeek()).build())
            .removeColumns("s").build(), zip(stamps, new Object[] {1.0, 2.0}));
        save("derive_text", start(ColumnType.Time).transform(
            new DeriveColumnsFromTimeTransform.Builder("x").addStringDerivedColumn("day", "yyyy-MM-dd", DateTimeZone.UTC)
                .build()).build(), zip(INSTANTS));
        save("derive_zone", new TransformProcess.Builder(new Schema.Builder().addColumnTime("x", DateTimeZone.forID("Europe/Berlin"))
            .build()).transform(new DeriveColumnsFromTimeTransform.Builder("x")
                .addIntegerDerivedColumn("hour", DateTimeFieldType.hourOfDay()).build()).build(), zip(INSTANTS));
        save("time_math", start(ColumnType.Time).timeMathOp("x", MathOp.Add, 36, TimeUnit.HOURS)
            .timeMathOp("x", MathOp.Subtract, 1, TimeUnit.MILLISECONDS)
            .transform(new DeriveColumnsFromTimeTransform.Builder("x")
                .addIntegerDerivedColumn("hour", DateTimeFieldType.hourOfDay())
                .addIntegerDerivedColumn("day", DateTimeFieldType.dayOfMonth()).build()).build(), zip(INSTANTS));
        save("time_bounds", start(ColumnType.Time)
            .timeMathOp("x", MathOp.ScalarMax, 0, TimeUnit.MILLISECONDS)
            .timeMathOp("x", MathOp.ScalarMin, 1704067200000L, TimeUnit.MILLISECONDS)
            .convertToDouble("x").build(), zip(INSTANTS));
    }

    private void tokens() throws Exception {
        Object[] words = {"the cat sat", "cat", "", " ", "the  the", "dog sat on the cat mat sat", "sat ", " sat", "dog", "\u6f22 cat"};
        List<String> vocabulary = List.of("the", "cat", "sat", "");
        for (boolean strict : new boolean[] {false, true}) {
            String suffix = strict ? "_strict" : "";
            save("term_index" + suffix, start(ColumnType.String).convertToSequence()
                .transform(new TextToTermIndexSequenceTransform("x", "ids", vocabulary, " ", strict))
                .trimOrPadSequenceToLength(4, List.of(new IntWritable(9))).build(), zip(words));
            Map<Character, Integer> characters = new LinkedHashMap<>();
            characters.put('a', 0);
            characters.put('c', 1);
            characters.put('t', 5);
            save("character_index" + suffix, start(ColumnType.String).convertToSequence()
                .transform(new TextToCharacterIndexTransform("x", "ids", characters, strict))
                .trimOrPadSequenceToLength(4, List.of(new IntWritable(0))).build(), zip(words));
        }
        save("term_index_without_length", start(ColumnType.String).convertToSequence()
            .transform(new TextToTermIndexSequenceTransform("x", "ids", vocabulary, " ", false)).build(), zip(words));
    }

    private void conditions() throws Exception {
        ConditionOp[] ordered = {ConditionOp.LessThan, ConditionOp.LessOrEqual, ConditionOp.GreaterThan,
            ConditionOp.GreaterOrEqual, ConditionOp.Equal, ConditionOp.NotEqual};
        List<Condition> conditions = new ArrayList<>();
        for (ConditionOp op : ordered) {
            conditions.add(new DoubleColumnCondition("x", op, 2.5));
            conditions.add(new DoubleColumnCondition("x", op, 0.0));
        }
        conditions.add(new DoubleColumnCondition("x", ConditionOp.InSet, setOf(2.5, 0.1)));
        conditions.add(new DoubleColumnCondition("x", ConditionOp.NotInSet, setOf(2.5, 0.1)));
        flags("condition_double", one(ColumnType.Double), conditions, zip(DOUBLES));
        conditions.clear();
        conditions.add(new DoubleColumnCondition("x", ConditionOp.InSet, setOf(2.5, 0.0)));
        conditions.add(new DoubleColumnCondition("x", ConditionOp.NotInSet, setOf(-0.0)));
        flags("condition_double_zero_in_set", one(ColumnType.Double), conditions, zip(DOUBLES));
        conditions.clear();
        conditions.add(new DoubleColumnCondition("x", ConditionOp.LessThan, Double.POSITIVE_INFINITY));
        conditions.add(new DoubleColumnCondition("x", ConditionOp.Equal, Double.NaN));
        conditions.add(new DoubleColumnCondition("x", ConditionOp.NotInSet, setOf(Double.NaN, 1.0)));
        flags("condition_double_not_finite", one(ColumnType.Double), conditions, zip(DOUBLES));
        conditions.clear();
        for (ConditionOp op : ordered) {
            conditions.add(new FloatColumnCondition("x", op, 0.1f));
        }
        conditions.add(new FloatColumnCondition("x", ConditionOp.InSet, setOf(2.5f, 0.1f)));
        conditions.add(new FloatColumnCondition("x", ConditionOp.NotInSet, setOf(2.5f, 0.1f)));
        flags("condition_float", one(ColumnType.Float), conditions, zip(FLOATS));
        conditions.clear();
        for (ConditionOp op : ordered) {
            conditions.add(new IntegerColumnCondition("x", op, 7));
        }
        conditions.add(new IntegerColumnCondition("x", ConditionOp.InSet, setOf(7, 2147483647)));
        conditions.add(new IntegerColumnCondition("x", ConditionOp.NotInSet, setOf(7, 2147483647)));
        flags("condition_integer", one(ColumnType.Integer), conditions, zip(INTEGERS));
        conditions.clear();
        for (ConditionOp op : ordered) {
            conditions.add(new LongColumnCondition("x", op, 9007199254740992L));
        }
        conditions.add(new LongColumnCondition("x", ConditionOp.InSet, setOf(7L, -9007199254740992L)));
        conditions.add(new LongColumnCondition("x", ConditionOp.NotInSet, setOf(7L, -9007199254740992L)));
        flags("condition_long", one(ColumnType.Long), conditions, zip(LONGS));
        conditions.clear();
        for (ConditionOp op : ordered) {
            conditions.add(new TimeColumnCondition("x", op, 1704067200000L));
        }
        conditions.add(new TimeColumnCondition("x", ConditionOp.InSet, setOf(0L, 1704067200000L)));
        conditions.add(new TimeColumnCondition("x", ConditionOp.NotInSet, setOf(0L, 1704067200000L)));
        flags("condition_time", one(ColumnType.Time), conditions, zip(INSTANTS));
        conditions.clear();
        for (ConditionOp op : new ConditionOp[] {ConditionOp.Equal, ConditionOp.NotEqual}) {
            conditions.add(new StringColumnCondition("x", op, "a"));
            conditions.add(new StringColumnCondition("x", op, ""));
        }
        conditions.add(new StringColumnCondition("x", ConditionOp.InSet, setOf("a", "", "\ud83d\ude00")));
        conditions.add(new StringColumnCondition("x", ConditionOp.NotInSet, setOf("a", "")));
        flags("condition_string", one(ColumnType.String), conditions, zip(TEXTS));
        conditions.clear();
        conditions.add(new StringRegexColumnCondition("x", "[a-zA-Z]+"));
        conditions.add(new StringRegexColumnCondition("x", "a|A b|"));
        flags("condition_regex", one(ColumnType.String), conditions, zip(TEXTS));
        conditions.clear();
        conditions.add(new StringRegexColumnCondition("x", "(?!a).*"));
        flags("condition_regex_lookahead", one(ColumnType.String), conditions, zip(TEXTS));
        conditions.clear();
        for (String pattern : PATTERNS) {
            conditions.add(new StringRegexColumnCondition("x", "(?:" + pattern + ")+"));
            conditions.add(new StringRegexColumnCondition("x", ".*(?:" + pattern + ").*$"));
        }
        flags("condition_regex_patterns", one(ColumnType.String), conditions, zip(SAMPLES));
        Schema categorical = new Schema.Builder().addColumnCategorical("x", "A", "B").build();
        conditions.clear();
        conditions.add(new CategoricalColumnCondition("x", ConditionOp.Equal, "A"));
        conditions.add(new CategoricalColumnCondition("x", ConditionOp.NotEqual, "A"));
        conditions.add(new CategoricalColumnCondition("x", ConditionOp.InSet, setOf("A", "Z")));
        conditions.add(new CategoricalColumnCondition("x", ConditionOp.NotInSet, setOf("A", "Z")));
        flags("condition_categorical", categorical, conditions, zip(new Object[] {"A", "B", "", "Z"}));
        conditions.clear();
        Condition low = new DoubleColumnCondition("x", ConditionOp.LessThan, 1.0);
        Condition high = new DoubleColumnCondition("x", ConditionOp.GreaterThan, -1.0);
        Condition two = new DoubleColumnCondition("x", ConditionOp.NotEqual, 2.5);
        conditions.add(BooleanCondition.AND(low, high, two));
        conditions.add(BooleanCondition.OR(low, high, two));
        conditions.add(BooleanCondition.NOT(low));
        conditions.add(BooleanCondition.XOR(low, high));
        conditions.add(BooleanCondition.NOT(BooleanCondition.XOR(BooleanCondition.AND(low, two), BooleanCondition.OR(high, two))));
        flags("condition_boolean", one(ColumnType.Double), conditions, zip(DOUBLES));
        missing = NullWritable.INSTANCE;
        flags("condition_null", one(ColumnType.Double), List.of(new NullWritableColumnCondition("x")), withNull(zip(DOUBLES)));
        missing = new Text("");
        flags("condition_trivial", one(ColumnType.Double), List.of(new TrivialColumnCondition("x")), zip(DOUBLES));
        flags("condition_nan", one(ColumnType.Double), List.of(new NaNColumnCondition("x")), zip(DOUBLES));
        flags("condition_nan_float", one(ColumnType.Float), List.of(new NaNColumnCondition("x")), zip(FLOATS));
        flags("condition_infinite", one(ColumnType.Double), List.of(new InfiniteColumnCondition("x")), zip(DOUBLES));
        flags("condition_double_of_integer", one(ColumnType.Integer),
            List.of(new DoubleColumnCondition("x", ConditionOp.LessThan, 2.5),
                new DoubleColumnCondition("x", ConditionOp.LessThan, Double.POSITIVE_INFINITY),
                new DoubleColumnCondition("x", ConditionOp.GreaterOrEqual, Double.NEGATIVE_INFINITY),
                new DoubleColumnCondition("x", ConditionOp.NotEqual, Double.NaN),
                new DoubleColumnCondition("x", ConditionOp.InSet, setOf(Double.NaN, 7.0, -0.0)), new NaNColumnCondition("x"),
                new InfiniteColumnCondition("x")), zip(INTEGERS));
        flags("condition_integer_of_double", one(ColumnType.Double),
            List.of(new IntegerColumnCondition("x", ConditionOp.Equal, 2)), zip(DOUBLES));
        Schema valid = new Schema.Builder().addColumnInteger("x", 0, 100).addColumnDouble("y", -1.0, 2.5)
            .addColumnString("s", "[a-zA-Z ]*", 1, 3).addColumnCategorical("c", "A", "B")
            .addColumnTime("t", DateTimeZone.UTC, 0L, 1704067200000L).addColumnLong("n", 0L, 100L)
            .addColumnFloat("f", -0.1f, 0.1f).addColumnDouble("z", -1.0, 2.5, true, true).build();
        conditions = new ArrayList<>();
        for (String name : valid.getColumnNames()) {
            conditions.add(new InvalidValueColumnCondition(name));
        }
        flags("condition_invalid", valid, conditions, zip(INTEGERS, DOUBLES, TEXTS, new Object[] {"A", "C"}, INSTANTS, LONGS,
            FLOATS, DOUBLES));
    }

    private void filters() throws Exception {
        Schema schema = new Schema.Builder().addColumnInteger("x", 0, 100).addColumnDouble("y", -1.0, 2.5)
            .addColumnCategorical("c", "A", "B").build();
        Object[][] rows = withNull(zip(INTEGERS, DOUBLES, new Object[] {"A", "B", "C"}));
        save("filter_condition", new TransformProcess.Builder(schema)
            .filter(new IntegerColumnCondition("x", ConditionOp.LessThan, 0)).build(), zip(INTEGERS, DOUBLES, new Object[] {"A"}));
        save("filter_condition_on_nan", new TransformProcess.Builder(schema)
            .filter(BooleanCondition.NOT(new DoubleColumnCondition("y", ConditionOp.GreaterThan, 0.0)))
            .doubleMathOp("y", MathOp.Multiply, 2.0).build(), zip(INTEGERS, DOUBLES, new Object[] {"A"}));
        save("filter_invalid", new TransformProcess.Builder(schema).filter(new FilterInvalidValues("x", "c")).build(), rows);
        save("filter_any_invalid", new TransformProcess.Builder(schema).filter(new FilterInvalidValues()).build(), rows);
        save("filter_invalid_later", new TransformProcess.Builder(schema).integerMathOp("x", MathOp.Add, 50)
            .filter(new FilterInvalidValues("x")).build(), zip(INTEGERS, DOUBLES, new Object[] {"A"}));
        save("filter_number_of_columns", new TransformProcess.Builder(schema).filter(new InvalidNumColumns(schema)).build(), rows);
        Schema texts = new Schema.Builder().addColumnString("s", "[a-zA-Z ]*", 1, 3)
            .addColumnTime("t", DateTimeZone.UTC, 0L, 1704067200000L).addColumnLong("n", 0L, 100L).build();
        save("filter_invalid_texts", new TransformProcess.Builder(texts).filter(new FilterInvalidValues("s", "n")).build(),
            zip(TEXTS, INSTANTS, new Object[] {0L, 100L, 101L}));
    }

    private void reducers() throws Exception {
        Schema schema = new Schema.Builder().addColumnString("k").addColumnDouble("x").addColumnInteger("n").addColumnLong("m")
            .addColumnString("s").build();
        Object[][] rows = {{"a", 1.5, 1, 10L, "p"}, {"b", 2.5, 2, 20L, "q"}, {"a", -4.0, 3, 30L, "q"}, {"a", 0.1, 3, -30L, "q"},
            {"b", 7.0, -2, 5L, "r"}, {"c", 9.0, 4, 1L, "z"}};
        ReduceOp[] numeric = {ReduceOp.Sum, ReduceOp.Mean, ReduceOp.Min, ReduceOp.Max, ReduceOp.Range, ReduceOp.Prod, ReduceOp.Stdev,
            ReduceOp.Variance, ReduceOp.PopulationVariance, ReduceOp.UncorrectedStdDev, ReduceOp.Count, ReduceOp.CountUnique,
            ReduceOp.TakeFirst, ReduceOp.TakeLast};
        for (ReduceOp op : numeric) {
            saveReduced("reduce_" + op.name().toLowerCase(Locale.ROOT), schema, new Reducer.Builder(op).keyColumns("k")
                .takeFirstColumns("s").build(), rows);
        }
        saveReduced("reduce_several", schema, new Reducer.Builder(ReduceOp.Max).keyColumns("k")
            .multipleOpColmumns(List.of(ReduceOp.Mean, ReduceOp.Count), "x").countUniqueColumns("s").build(), rows);
        saveReduced("reduce_conditional", schema, new Reducer.Builder(ReduceOp.TakeFirst).keyColumns("k")
            .conditionalReduction("x", "positive", ReduceOp.Sum, new DoubleColumnCondition("x", ConditionOp.GreaterThan, 0.0))
            .build(), rows);
    }

    private void whole() throws Exception {
        Schema schema = new Schema.Builder().addColumnString("cust").addColumnCategorical("grade", "A", "B", "C")
            .addColumnDouble("income", 0.0, 1e7).addColumnInteger("dep").addColumnString("ts").addColumnBoolean("vip").build();
        TransformProcess process = new TransformProcess.Builder(schema)
            .filter(new DoubleColumnCondition("income", ConditionOp.LessThan, 0.0))
            .filter(new FilterInvalidValues("income"))
            .transform(new ReplaceEmptyIntegerWithValueTransform("dep", 0))
            .conditionalReplaceValueTransform("dep", new IntWritable(5), new IntegerColumnCondition("dep", ConditionOp.GreaterThan, 5))
            .transform(new StandardizeNormalizer("income", 52000.0, 21000.0))
            .stringToTimeTransform("ts", "yyyy-MM-dd HH:mm:ss", DateTimeZone.UTC)
            .transform(new DeriveColumnsFromTimeTransform.Builder("ts")
                .addIntegerDerivedColumn("hour", DateTimeFieldType.hourOfDay()).build())
            .categoricalToOneHot("grade").removeColumns("ts").build();
        Object[][] rows = {{"c1", "A", 1000.5, 2, "2024-02-29 23:59:58", true}, {"c2", "B", -1.0, 2, "2024-02-29 23:59:58", false},
            {"c3", "C", 52000.0, 9, "1969-12-31 01:00:00", false}, {"c4", "D", 5.0, 0, "2024-02-29 23:59:58", true},
            {"c5", "A", 2e7, 0, "2024-02-29 23:59:58", true}, {"c6", "A", 7.5, null, "2024-02-29 00:00:00", true},
            {"c7", "A", 7.5, 1, "yesterday", true}};
        save("credit", process, rows);
        String legacy = JsonMappers.getLegacyMapper().writeValueAsString(process);
        save("credit_legacy", process, legacy, rows);
        Schema two = new Schema.Builder().addColumnDouble("x").addColumnCategorical("c", "A", "B").build();
        TransformProcess conditional = new TransformProcess.Builder(two)
            .conditionalReplaceValueTransform("x", new DoubleWritable(0.5), BooleanCondition.AND(
                new DoubleColumnCondition("x", ConditionOp.LessThan, 0.0),
                new CategoricalColumnCondition("c", ConditionOp.InSet, Collections.singleton("B"))))
            .filter(new DoubleColumnCondition("x", ConditionOp.GreaterThan, 100.0))
            .transform(new StandardizeNormalizer("x", 0.3, 0.7)).categoricalToInteger("c").build();
        save("conditional_legacy", conditional, JsonMappers.getLegacyMapper().writeValueAsString(conditional),
            zip(DOUBLES, new Object[] {"A", "B"}));
    }

    private void chains() throws Exception {
        Schema ranged = new Schema.Builder().addColumnInteger("x", 0, 100).addColumnDouble("y", -1.0, 2.5).build();
        Object[][] rows = withNull(zip(INTEGERS, DOUBLES));
        Object[][] swapped = Arrays.stream(withNull(zip(DOUBLES, INTEGERS)))
            .map(row -> new Object[] {row[1], row[0]}).toArray(Object[][]::new);
        save("missing_replaced_by_condition", new TransformProcess.Builder(ranged)
            .conditionalReplaceValueTransform("x", new IntWritable(4), new InvalidValueColumnCondition("x"))
            .integerMathOp("x", MathOp.Add, 5).build(), rows);
        save("missing_double_replaced", new TransformProcess.Builder(ranged)
            .conditionalReplaceValueTransform("y", new DoubleWritable(0.5), BooleanCondition.OR(
                new InvalidValueColumnCondition("y"), new DoubleColumnCondition("y", ConditionOp.Equal, 1.0)))
            .transform(new StandardizeNormalizer("y", 0.3, 0.7)).build(), swapped);
        Condition small = new IntegerColumnCondition("x", ConditionOp.LessThan, 5);
        Condition invalid = new InvalidValueColumnCondition("x");
        flags("missing_not_reached", ranged, List.of(BooleanCondition.AND(BooleanCondition.NOT(invalid), small),
            BooleanCondition.OR(invalid, small), BooleanCondition.NOT(BooleanCondition.OR(invalid, small))), rows);
        flags("missing_reached", ranged, List.of(BooleanCondition.AND(invalid, small)), rows);
        save("missing_examined_then_read", new TransformProcess.Builder(ranged).addConstantIntegerColumn("bad", 0)
            .conditionalReplaceValueTransform("bad", new IntWritable(1), invalid)
            .integerMathOp("x", MathOp.Modulus, 7).build(), rows);
        Object[][] both = {{1, -0.5}, {null, -0.5}, {null, 0.5}, {2, null}, {null, null}};
        save("missing_behind_filter", new TransformProcess.Builder(ranged)
            .filter(new DoubleColumnCondition("y", ConditionOp.LessThan, 0.0)).integerMathOp("x", MathOp.Add, 1).build(), both);
        save("missing_handed_on", new TransformProcess.Builder(ranged)
            .conditionalReplaceValueTransform("x", new IntWritable(9), new DoubleColumnCondition("y", ConditionOp.LessThan, 0.0))
            .build(), new Object[][] {{1, -0.5}, {null, -0.5}, {null, 0.5}, {2, 0.5}});
        Schema mixed = new Schema.Builder().addColumnCategorical("c", "p", "q", "r").addColumnFloat("f").addColumnInteger("i")
            .addColumnLong("n").addColumnTime("t", DateTimeZone.UTC).addColumnString("s").addColumnDouble("d").build();
        Object[][] many = zip(new Object[] {"r", "p", "q"}, FLOATS, new Object[] {0, 1, 2, -1, 50}, new Object[] {5L, -7L, 0L, 4503599627370497L},
            INSTANTS, TEXTS, DOUBLES);
        save("codes_in_arithmetic", new TransformProcess.Builder(mixed).categoricalToInteger("c")
            .integerMathOp("c", MathOp.Multiply, 2).duplicateColumn("c", "c2").integerToOneHot("c", 0, 4)
            .integerColumnsMathOp("sum", MathOp.Add, "c[4]", "c2", "i").renameColumn("c2", "c").build(), many);
        save("parts_of_time_one_hot", new TransformProcess.Builder(mixed).transform(
            new DeriveColumnsFromTimeTransform.Builder("t").addIntegerDerivedColumn("month", DateTimeFieldType.monthOfYear())
                .addIntegerDerivedColumn("weekday", DateTimeFieldType.dayOfWeek()).build())
            .integerToOneHot("weekday", 1, 7).integerMathOp("month", MathOp.Subtract, 1).convertToString("month")
            .appendStringColumnTransform("month", "/12").removeColumns("weekday[3]", "t").build(), many);
        save("longs_as_doubles", new TransformProcess.Builder(mixed).duplicateColumns(List.of("n"), List.of("root"))
            .transform(new StandardizeNormalizer("n", 3.5, 0.7)).doubleMathFunction("root", MathFunction.SQRT).build(), many);
        save("floats_as_doubles", new TransformProcess.Builder(mixed).floatMathOp("f", MathOp.Multiply, 0.1f)
            .doubleColumnsMathOp("product", MathOp.Multiply, "f", "i", "d").doubleMathFunction("f", MathFunction.TANH)
            .convertToInteger("d").build(), many);
        save("texts_to_categories", new TransformProcess.Builder(mixed).transform(
            new ChangeCaseStringTransform("s", ChangeCaseStringTransform.CaseType.UPPER))
            .replaceStringTransform("s", Map.of("[^A-Z]+", "")).transform(new ReplaceEmptyStringTransform("s", "?"))
            .transform(new MapAllStringsExceptListTransform("s", "other", List.of("A", "AB", "?")))
            .stringToCategorical("s", List.of("?", "A", "AB", "other")).categoricalToOneHot("s").build(), many);
        save("times_replaced", new TransformProcess.Builder(mixed).duplicateColumn("t", "u")
            .conditionalReplaceValueTransform("t", new LongWritable(86400000L), new TimeColumnCondition("t", ConditionOp.LessThan, 0L))
            .timeMathOp("t", MathOp.Add, 90, TimeUnit.MINUTES)
            .conditionalReplaceValueTransformWithDefault("u", new LongWritable(1L), new LongWritable(-1L),
                new TimeColumnCondition("u", ConditionOp.GreaterOrEqual, 951827228123L))
            .convertToDouble("u").convertToString("t").build(), many);
        save("copied_wider", new TransformProcess.Builder(mixed)
            .conditionalCopyValueTransform("d", "i", new DoubleColumnCondition("d", ConditionOp.GreaterThan, 1.0))
            .conditionalCopyValueTransform("s", "c", new StringColumnCondition("s", ConditionOp.Equal, ""))
            .conditionalCopyValueTransform("n", "i", new LongColumnCondition("n", ConditionOp.LessThan, 0L)).build(), many);
        flags("condition_double_of_long", one(ColumnType.Long), List.of(new DoubleColumnCondition("x", ConditionOp.LessThan, 7.5),
            new DoubleColumnCondition("x", ConditionOp.Equal, 9007199254740992.0)), zip(LONGS));
    }

    private void unsupported() throws Exception {
        Schema schema = new Schema.Builder().addColumnCategorical("k", "a", "b").addColumnDouble("v").addColumnLong("t")
            .addColumnString("s").addColumnString("u").build();
        Object[][] rows = {{"a", 1.0, 5L, "x,y", "x"}, {"b", 2.0, 3L, "y", "7"}};
        save("pivot", new TransformProcess.Builder(schema).transform(new PivotTransform("k", "v")).build(), rows);
        save("first_digit", new TransformProcess.Builder(schema).firstDigitTransform("u", "digit").build(), rows);
        save("rank", new TransformProcess.Builder(schema).calculateSortedRank("rank", "t", new LongWritableComparator()).build(), rows);
        TransformProcess several = new TransformProcess.Builder(schema)
            .doubleMathFunction("v", MathFunction.COSH)
            .convertToString("v")
            .transform(new StringListToCategoricalSetTransform("s", List.of("has_x", "has_y"), List.of("x", "y"), ","))
            .transform(new StringListToCountsNDArrayTransform("u", "bag", List.of("x"), ",", false, true))
            .convertToSequence("k", new NumericalColumnComparator("t"))
            .trimSequence(1, true)
            .offsetSequence(List.of("t"), 1, org.datavec.api.transform.transform.sequence.SequenceOffsetTransform.OperationType.NewColumn)
            .convertFromSequence()
            .build();
        save("unsupported", several, new Object[][] {});
        Schema arrays = new Schema.Builder().addColumnNDArray("p", new long[] {1, 2}).addColumnNDArray("q", new long[] {1, 2}).build();
        save("arrays", new TransformProcess.Builder(arrays).ndArrayScalarOpTransform("p", MathOp.Add, 1.0)
            .ndArrayDistanceTransform("d", Distance.COSINE, "p", "q").build(), new Object[][] {});
    }

    // ------------------------------------------------------------------------------------------------ how they are made

    private void text(String name, UnaryOperator<TransformProcess.Builder> step) throws Exception {
        save(name, step.apply(beside(ColumnType.String)).build(), zip(TEXTS, BESIDE));
    }

    /** One column of 0 or 1 for each condition. */
    private void flags(String name, Schema schema, List<Condition> conditions, Object[][] rows) throws Exception {
        TransformProcess.Builder builder = new TransformProcess.Builder(schema);
        for (int index = 0; index < conditions.size(); index++) {
            builder.addConstantIntegerColumn("is" + index, 0);
        }
        for (int index = 0; index < conditions.size(); index++) {
            builder.conditionalReplaceValueTransform("is" + index, new IntWritable(1), conditions.get(index));
        }
        save(name, builder.build(), rows);
    }

    private static TransformProcess derived(DateTimeFieldType... fields) {
        DeriveColumnsFromTimeTransform.Builder builder = new DeriveColumnsFromTimeTransform.Builder("x");
        for (DateTimeFieldType field : fields) {
            builder.addIntegerDerivedColumn(field.getName(), field);
        }
        return start(ColumnType.Time).transform(builder.build()).build();
    }

    private static TransformProcess integerMath(List<MathOp> ops, int scalar) {
        TransformProcess.Builder builder = start(ColumnType.Integer);
        ops.forEach(op -> builder.duplicateColumn("x", op.name()).integerMathOp(op.name(), op, scalar));
        return builder.build();
    }

    private static TransformProcess longMath(List<MathOp> ops, long scalar) {
        TransformProcess.Builder builder = start(ColumnType.Long);
        ops.forEach(op -> builder.duplicateColumn("x", op.name()).longMathOp(op.name(), op, scalar));
        return builder.build();
    }

    private static TransformProcess doubleMath(List<MathOp> ops, double scalar) {
        TransformProcess.Builder builder = start(ColumnType.Double);
        ops.forEach(op -> builder.duplicateColumn("x", op.name()).doubleMathOp(op.name(), op, scalar));
        return builder.build();
    }

    private static TransformProcess floatMath(List<MathOp> ops, float scalar) {
        TransformProcess.Builder builder = start(ColumnType.Float);
        ops.forEach(op -> builder.duplicateColumn("x", op.name()).floatMathOp(op.name(), op, scalar));
        return builder.build();
    }

    private static Object[] without(Object[] values, Object unwanted) {
        return Arrays.stream(values).filter(value -> !value.equals(unwanted)).toArray();
    }

    /** With a second column, of numbers: what a model takes. */
    private static TransformProcess.Builder beside(ColumnType type) {
        List<ColumnMetaData> columns = new ArrayList<>(one(type).getColumnMetaData());
        columns.add(new DoubleMetaData("n"));
        return new TransformProcess.Builder(new Schema(columns));
    }

    private static TransformProcess.Builder start(ColumnType type) {
        return new TransformProcess.Builder(one(type));
    }

    private static Schema one(ColumnType type) {
        if (type == ColumnType.Categorical) {
            return new Schema.Builder().addColumnCategorical("x", "1", "2.5").build();
        }
        if (type == ColumnType.Boolean) {
            return new Schema.Builder().addColumnBoolean("x").build();
        }
        return new Schema.Builder().addColumn(type.newColumnMetaData("x")).build();
    }

    /** Unlike those of Set.of, its elements are in the same order in every run. */
    @SafeVarargs
    private static <T> Set<T> setOf(T... values) {
        return new LinkedHashSet<>(List.of(values));
    }

    /** Rows from columns, the shorter ones repeated. */
    private static Object[][] zip(Object[]... columns) {
        int length = Arrays.stream(columns).mapToInt(column -> column.length).max().orElse(0);
        Object[][] rows = new Object[length][columns.length];
        for (int row = 0; row < length; row++) {
            for (int column = 0; column < columns.length; column++) {
                rows[row][column] = columns[column][row % columns[column].length];
            }
        }
        return rows;
    }

    private static Object[][] cross(Object[] values) {
        List<Object[]> rows = new ArrayList<>();
        for (Object first : values) {
            for (Object second : values) {
                rows.add(new Object[] {first, second});
            }
        }
        return rows.toArray(new Object[0][]);
    }

    private static Object[][] withNull(Object[][] rows) {
        Object[][] more = Arrays.copyOf(rows, rows.length + 1);
        more[rows.length] = rows[0].clone();
        more[rows.length][0] = null;
        return more;
    }

    private static List<Writable> writables(Schema schema, Object[] row) {
        List<Writable> writables = new ArrayList<>();
        for (int column = 0; column < row.length; column++) {
            writables.add(writable(schema.getType(column), row[column]));
        }
        return writables;
    }

    private static Writable writable(ColumnType type, Object value) {
        if (value == null) {
            return missing;
        }
        switch (type) {
            case String:
            case Categorical:
                return new Text((String) value);
            case Integer:
                return new IntWritable((Integer) value);
            case Long:
            case Time:
                return new LongWritable((Long) value);
            case Double:
                return new DoubleWritable((Double) value);
            case Float:
                return new FloatWritable((Float) value);
            default:
                return new BooleanWritable((Boolean) value);
        }
    }

    private static Object plain(Writable writable) {
        if (writable instanceof DoubleWritable) {
            return writable.toDouble();
        }
        if (writable instanceof FloatWritable) {
            return writable.toFloat();
        }
        if (writable instanceof IntWritable) {
            return writable.toInt();
        }
        if (writable instanceof LongWritable) {
            return writable.toLong();
        }
        if (writable instanceof BooleanWritable) {
            return ((BooleanWritable) writable).get();
        }
        return writable instanceof NullWritable ? null : writable.toString();
    }

    private static List<Object> plain(List<Writable> row) {
        List<Object> values = new ArrayList<>();
        row.forEach(writable -> values.add(plain(writable)));
        return values;
    }

    private static boolean isSequence(TransformProcess process) {
        return process.getActionList().stream().anyMatch(action -> action.getConvertToSequence() != null);
    }

    private static Object executed(TransformProcess process, List<Writable> row) {
        try {
            if (isSequence(process)) {
                List<Object> steps = new ArrayList<>();
                process.executeToSequence(row).forEach(step -> steps.add(plain(step)));
                return steps;
            }
            List<Writable> result = process.execute(row);
            return result == null ? "removed" : plain(result);
        } catch (RuntimeException error) {
            return "error: " + error.getClass().getSimpleName();
        }
    }

    private static List<Object> outputs(TransformProcess process, Object[][] rows) {
        List<Object> outputs = new ArrayList<>();
        for (Object[] row : rows) {
            outputs.add(executed(process, writables(process.getInitialSchema(), row)));
        }
        return outputs;
    }

    private static List<List<String>> columns(Schema schema) {
        List<List<String>> columns = new ArrayList<>();
        for (int index = 0; index < schema.numColumns(); index++) {
            columns.add(List.of(schema.getName(index), schema.getType(index).name()));
        }
        return columns;
    }

    private void save(String name, TransformProcess process, Object[][] rows) throws Exception {
        save(name, process, process.toJson(), rows);
    }

    private void save(String name, TransformProcess process, String json, Object[][] rows) throws Exception {
        save(name, process, json, rows, outputs(process, rows));
    }

    private void saveReduced(String name, Schema schema, Reducer reducer, Object[][] rows) throws Exception {
        TransformProcess process = new TransformProcess.Builder(schema).reduce(reducer).build();
        Map<String, IAggregableReduceOp<List<Writable>, List<Writable>>> groups = new LinkedHashMap<>();
        for (Object[] row : rows) {
            groups.computeIfAbsent((String) row[0], key -> reducer.aggregableReducer()).accept(writables(schema, row));
        }
        List<Object> outputs = new ArrayList<>();
        groups.values().forEach(group -> outputs.add(plain(group.get())));
        save(name, process, process.toJson(), rows, outputs);
    }

    private void save(String name, TransformProcess process, String json, Object[][] rows, List<Object> outputs) throws Exception {
        Map<String, Object> document = new LinkedHashMap<>();
        document.put("schema", columns(process.getInitialSchema()));
        document.put("final_schema", columns(process.getFinalSchema()));
        document.put("datavec_reads_it_back", readBack(json, rows, outputs));
        StringBuilder text = new StringBuilder("{");
        for (Map.Entry<String, Object> entry : document.entrySet()) {
            text.append('"').append(entry.getKey()).append("\": ").append(mapper.writeValueAsString(entry.getValue())).append(",\n ");
        }
        text.append("\"input\": ").append(lines(Arrays.asList(rows))).append(",\n \"output\": ").append(lines(outputs)).append("}\n");
        Files.writeString(folder.resolve(name + ".json"), json + "\n", StandardCharsets.UTF_8);
        Files.writeString(folder.resolve(name + ".rows.json"), text, StandardCharsets.UTF_8);
    }

    private String lines(List<?> rows) throws Exception {
        StringBuilder text = new StringBuilder("[");
        for (int index = 0; index < rows.size(); index++) {
            text.append(index == 0 ? "" : ",").append("\n  ").append(mapper.writeValueAsString(rows.get(index)));
        }
        return text.append("]").toString();
    }

    /** Whether DataVec reads its own text and then makes the same rows of it; else what it says. */
    private static Object readBack(String json, Object[][] rows, List<Object> outputs) {
        TransformProcess copy;
        try {
            copy = TransformProcess.fromJson(json);
        } catch (RuntimeException error) {
            Throwable cause = error.getCause() == null ? error : error.getCause();
            return cause.getClass().getSimpleName();
        }
        boolean reduced = copy.getActionList().stream().anyMatch(action -> action.getReducer() != null);
        return reduced || outputs(copy, rows).equals(outputs) ? true : "other rows";
    }
}
